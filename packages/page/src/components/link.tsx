import type { ComponentChildren } from 'preact';
import { hashOf, pathOf, type RouteQuery } from '../route.js';

export interface LinkProps {
  /** A pattern of the page's views, such as `/jobs/:id`. */
  to: string;
  params?: Readonly<Record<string, string>>;
  query?: RouteQuery;
  class?: string;
  children: ComponentChildren;
}

/** A link to a view of this page. */
export function Link({ to, params = {}, query = {}, class: className, children }: LinkProps) {
  return (
    <a href={hashOf(pathOf(to, params), query)} class={className}>
      {children}
    </a>
  );
}
