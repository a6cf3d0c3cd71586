import { useEffect } from 'preact/hooks';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { questionOf, type RowQuestion } from './row-question.js';

/** Rows that are read, and those that are offered. */
const [READ, OFFERED] = [20, 4];

/** Some questions of the dataset that an adapter was trained on; none for an imported one, or where the dataset is deleted. */
export function useRowQuestions(adapter: string | undefined): readonly RowQuestion[] {
  const client = useClient();
  const read = async (signal: AbortSignal) => {
    if (adapter === undefined) return [];
    const { origin } = await client.manifest(adapter, { signal });
    if (!('dataset' in origin)) return [];
    const { data } = await client.datasetRows(origin.dataset.id, { limit: READ }, { signal });
    return data.flatMap(({ text }) => questionOf(text) ?? []);
  };
  return usePolled((signal) => read(signal).catch(() => []), [client, adapter], { everyMs: null }).value ?? [];
}

export interface RowSuggestionsProps {
  questions: readonly RowQuestion[];
  onAsk: (question: string) => void;
}

/** Questions of the dataset to ask with one press. */
export function RowSuggestions({ questions, onAsk }: RowSuggestionsProps) {
  if (questions.length === 0) return null;
  return (
    <section class="suggestions" aria-label="Questions of the dataset">
      <p class="fine-print">Ask a row of its dataset:</p>
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
