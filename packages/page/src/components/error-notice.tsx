import { ApiError, foldedFaults } from '@lorasmith/client/core';
import { type Fault, ProductError } from '@lorasmith/contracts';
import type { ComponentChildren } from 'preact';
import type { Polled } from '../service/use-polled.js';

/** Further faults are counted. */
const SHOWN_FAULTS = 100;

export interface ErrorNoticeProps {
  error: unknown;
  /** The failure, such as `The job was not created`. */
  what?: string;
  onRetry?: () => void;
}

/** An error of the service: its message and every fault with its location. Nothing while there is none. */
export function ErrorNotice({ error, what, onRetry }: ErrorNoticeProps) {
  if (error === undefined || error === null) return null;
  const message = error instanceof Error ? error.message : String(error);
  const faults = error instanceof ProductError ? error.details : [];
  const [only, ...others] = foldedFaults(faults);
  const onlyRepeats = only?.message === message && only.place === '' && others.length === 0;
  return (
    <div class="notice notice-error" role="alert">
      {what !== undefined && <p class="notice-title">{what}</p>}
      <p>{message}</p>
      {!onlyRepeats && <FaultList faults={faults} />}
      {error instanceof ProductError && (
        <p class="fine-print">
          <code>{error.code}</code>
          {error instanceof ApiError && error.requestId !== null && (
            <>
              {' '}
              request <code>{error.requestId}</code>
            </>
          )}
        </p>
      )}
      {onRetry !== undefined && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Faults, or warnings, each with the lines of the file or the field that it is about. */
export function FaultList({ faults }: { faults: readonly Fault[] }) {
  if (faults.length === 0) return null;
  const folded = foldedFaults(faults);
  return (
    <ul class="faults">
      {folded.slice(0, SHOWN_FAULTS).map(({ place, message }, index) => (
        <li key={index}>
          {place !== '' && <span class="fault-place">{place}: </span>}
          {message}
        </li>
      ))}
      {folded.length > SHOWN_FAULTS && <li>and {folded.length - SHOWN_FAULTS} more</li>}
    </ul>
  );
}

export interface LoadedProps<Value> {
  from: Polled<Value>;
  /** The thing that is loaded, such as `the jobs`. */
  what: string;
  children: (value: Value) => ComponentChildren;
}

/** Shows a polled value, or that it is still loading. An error is shown next to the last value. */
export function Loaded<Value>({ from: { value, error, refresh }, what, children }: LoadedProps<Value>) {
  return (
    <>
      <ErrorNotice error={error} what={`Could not load ${what}`} onRetry={refresh} />
      {value === undefined ? error === undefined && <p class="loading">Loading {what} …</p> : children(value)}
    </>
  );
}
