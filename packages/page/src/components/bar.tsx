import type { ComponentChildren } from 'preact';

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
