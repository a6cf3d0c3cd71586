import type { ComponentChildren } from 'preact';
import type { Polled } from '../service/use-polled.js';
import { ErrorNotice } from './error-notice.js';

export interface LoadedProps<Value> {
  from: Polled<Value>;
  /** The thing that is loaded, such as `the jobs`. */
  what: string;
  children: (value: Value) => ComponentChildren;
}

/** Shows a polled value, or that it is still loading. An error is shown beside the last value. */
export function Loaded<Value>({ from: { value, error, refresh }, what, children }: LoadedProps<Value>) {
  return (
    <>
      <ErrorNotice error={error} what={`Could not load ${what}`} onRetry={refresh} />
      {value === undefined ? error === undefined && <p class="loading">Loading {what} …</p> : children(value)}
    </>
  );
}
