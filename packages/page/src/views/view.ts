import type { ComponentType } from 'preact';

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
