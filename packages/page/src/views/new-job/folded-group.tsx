import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';

export interface FoldedGroupProps {
  title: string;
  /** The number of its fields that are filled in. */
  changed: number;
  /** The labels of its fields that have a fault. */
  faulty: readonly string[];
  /** Whether a search has found its fields. */
  isFound?: boolean;
  children: ComponentChildren;
}

/** Fields that are folded, until something in them is wrong or found. */
export function FoldedGroup({ title, changed, faulty, isFound = false, children }: FoldedGroupProps) {
  const [isOpen, setOpen] = useState(false);
  const isFaulty = faulty.length > 0;
  useEffect(() => {
    if (isFaulty || isFound) setOpen(true);
  }, [isFaulty, isFound]);
  const note = isFaulty ? `: ${faulty.join(', ')}` : changed > 0 ? ` (${changed} set)` : '';
  return (
    <details class="card new-job-folded" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        {title}
        {note}
      </summary>
      <fieldset aria-label={title}>{children}</fieldset>
    </details>
  );
}
