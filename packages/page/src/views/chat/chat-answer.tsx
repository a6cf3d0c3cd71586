import { ErrorNotice } from '../../components/error-notice.js';
import type { Answer } from './conversation.js';

export interface ChatAnswerProps {
  /** The model whose answer it is. */
  model: string;
  answer: Answer | undefined;
  error: unknown;
  /** Null while something is being answered. */
  onRetry: (() => void) | null;
}

const STATE_TEXTS = {
  streaming: 'answering …',
  done: '',
  cut: 'cut off at the maximum of tokens',
  stopped: 'stopped',
  failed: 'failed',
} as const;

/** One answer, as text. A screen reader says it when it is complete. */
export function ChatAnswer({ model, answer, error, onRetry }: ChatAnswerProps) {
  const state = answer?.state;
  const note = state === undefined ? 'not asked' : STATE_TEXTS[state];
  const isIncomplete = state === undefined || state === 'failed' || state === 'stopped';
  return (
    <div class="chat-answer">
      <p class="chat-speaker">{model}</p>
      <div aria-live="polite" aria-busy={state === 'streaming'}>
        <p class="chat-text">{answer?.text}</p>
        {note !== '' && <p class="fine-print">{note}</p>}
      </div>
      {error !== undefined ? (
        <ErrorNotice error={error} what="No complete answer" {...(onRetry === null ? {} : { onRetry })} />
      ) : (
        isIncomplete &&
        onRetry !== null && (
          <div>
            <button type="button" aria-label={`Ask again: ${model}`} onClick={onRetry}>
              Ask again
            </button>
          </div>
        )
      )}
    </div>
  );
}
