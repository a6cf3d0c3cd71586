import type { ComponentChildren } from 'preact';

export interface ScrollRegionProps {
  /** Names the region for screen readers. */
  label: string;
  class?: string;
  children: ComponentChildren;
}

/** Content that may be wider or higher than its place. A keyboard can scroll only what has the focus. */
export function ScrollRegion({ label, class: className, children }: ScrollRegionProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
    <section class={`scroll-region ${className ?? ''}`} tabIndex={0} aria-label={label}>
      {children}
    </section>
  );
}
