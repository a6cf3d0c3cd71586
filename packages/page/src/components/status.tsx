import type { JobStatus, SweepStatus } from '@lorasmith/contracts';
import type { ComponentChildren } from 'preact';

export interface StatusBadgeProps {
  status: JobStatus | SweepStatus;
  /** A word that says more than the state. @defaultValue the state */
  word?: string | undefined;
}

/** The state of a job or a sweep, as a word in a colour. */
export function StatusBadge({ status, word = status }: StatusBadgeProps) {
  return <span class={`badge badge-${status}`}>{word}</span>;
}

export interface BarProps {
  label: string;
  value: number;
  max: number;
  /** Text before the label. */
  children?: ComponentChildren;
}

/** The share that is done. */
export function Bar({ label, value, max, children }: BarProps) {
  return (
    <label class="bar">
      <span class="bar-text">
        <span>{children}</span>
        <span class="muted">
          {label} ({Math.floor((100 * value) / max)} %)
        </span>
      </span>
      <progress value={value} max={max} />
    </label>
  );
}
