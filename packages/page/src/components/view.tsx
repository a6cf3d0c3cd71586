import type { ComponentChildren, ComponentType } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';

export interface ViewProps {
  /** The values of the names in the view's path, decoded. */
  params: Readonly<Record<string, string>>;
  /** The parameters of the address. Change them with `changeQuery`. */
  query: URLSearchParams;
}

export interface View {
  /** Pattern, such as `/jobs/:id`. */
  path: string;
  View: ComponentType<ViewProps>;
}

let isFirstView = true;

export interface ViewHeadProps {
  title: string;
  /** A mark behind the title, such as a state. */
  badge?: ComponentChildren;
  /** Buttons and links next to the title. */
  children?: ComponentChildren;
}

/** The heading of a view. It gets the focus when the view is opened, so that a screen reader says where it is. */
export function ViewHead({ title, badge, children }: ViewHeadProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  // Together with the heading, not after it is painted: who sees one sees the other.
  useLayoutEffect(() => {
    document.title = `${title} · Lorasmith`;
  }, [title]);
  useLayoutEffect(() => {
    // Later it would take the focus from what was pressed meanwhile. The browser itself starts at the top of the first view.
    if (!isFirstView) heading.current?.focus();
    isFirstView = false;
  }, []);
  return (
    <div class="view-head">
      <div class="view-title">
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        {badge}
      </div>
      {children !== undefined && <div class="buttons">{children}</div>}
    </div>
  );
}
