import { ApiError } from '@lorasmith/client/core';
import { type Fault, ProductError } from '@lorasmith/contracts';

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
  const onlyRepeats = faults.length === 1 && faults[0]!.message === message && placeOf(faults[0]!) === '';
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

/** Faults, or warnings, each with the line of the file or the field that it is about. */
export function FaultList({ faults }: { faults: readonly Fault[] }) {
  if (faults.length === 0) return null;
  return (
    <ul class="faults">
      {faults.slice(0, SHOWN_FAULTS).map((fault, index) => (
        <li key={index}>
          {placeOf(fault) !== '' && <span class="fault-place">{placeOf(fault)}: </span>}
          {fault.message}
        </li>
      ))}
      {faults.length > SHOWN_FAULTS && <li>and {faults.length - SHOWN_FAULTS} more</li>}
    </ul>
  );
}

function placeOf({ line, dataset, param }: Fault): string {
  if (line === undefined) return param ?? '';
  return `line ${line}${dataset === undefined ? '' : ` of ${dataset}`}`;
}
