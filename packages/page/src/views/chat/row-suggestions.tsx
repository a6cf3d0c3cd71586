import type { Client } from '@lorasmith/client/core';
import { heldOutRows } from '@lorasmith/planning/validation-split';
import { useEffect } from 'preact/hooks';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { questionOf, type RowQuestion } from './conversation.js';

/** Rows that are read, and those that are offered. */
const [READ, OFFERED] = [100, 4];

/** Questions of rows. */
export interface RowQuestions {
  questions: readonly RowQuestion[];
  /** True if the adapter was not trained on these rows. */
  isHeldOut: boolean;
}

const NONE: RowQuestions = { questions: [], isHeldOut: false };

/**
 * Some questions of the data of an adapter: rows that were held out, otherwise rows that it was trained on. None for an imported one, or where
 * the dataset is deleted.
 */
export function useRowQuestions(adapter: string | undefined): RowQuestions {
  const client = useClient();
  return (
    usePolled(
      (signal) =>
        adapter === undefined ? Promise.resolve(NONE) : questionsFor(client, adapter, signal).catch(() => NONE),
      [client, adapter],
      { everyMs: null },
    ).value ?? NONE
  );
}

async function questionsFor(client: Client, adapter: string, signal: AbortSignal): Promise<RowQuestions> {
  const { origin } = await client.manifest(adapter, { signal });
  if (!('dataset' in origin)) return NONE;
  const { dataset, validation_dataset: other, settings } = origin;
  const { data } = await client.datasetRows((other ?? dataset).id, { limit: READ }, { signal });
  const questions = data.map(({ text }) => questionOf(text));
  const of = (rows: readonly (RowQuestion | null)[]) => rows.filter((row) => row !== null);
  if (other !== null) return { questions: of(questions), isHeldOut: true };
  const { rows } = await client.getDataset(dataset.id, { signal });
  const heldOut = heldOutRows(rows, settings.validation.split, settings.training.seed);
  // The page begins with the first row, and leaves none out.
  const unseen = of(questions.filter((_, index) => heldOut.has(index)));
  return unseen.length > 0 ? { questions: unseen, isHeldOut: true } : { questions: of(questions), isHeldOut: false };
}

export interface RowSuggestionsProps extends RowQuestions {
  onAsk: (question: string) => void;
}

/** Questions of the dataset to ask with one press. */
export function RowSuggestions({ questions, isHeldOut, onAsk }: RowSuggestionsProps) {
  if (questions.length === 0) return null;
  return (
    <section class="suggestions" aria-label="Questions of the dataset">
      <p class="fine-print">{isHeldOut ? 'Ask a row that it has not seen:' : 'Ask a row that it was trained on:'}</p>
      <div class="buttons">
        {questions.slice(0, OFFERED).map(({ question }, index) => (
          <button key={index} type="button" onClick={() => onAsk(question)}>
            {question}
          </button>
        ))}
      </div>
    </section>
  );
}

/** Begins an empty conversation with the system message that the dataset has. */
export function useSystemOf(questions: readonly RowQuestion[], isEmpty: boolean, set: (system: string) => void): void {
  const system = questions[0]?.system ?? '';
  useEffect(() => {
    if (isEmpty && system !== '') set(system);
  }, [system]);
}
