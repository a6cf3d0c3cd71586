import type { Sample } from '@lorasmith/contracts';

/** The text that a model has generated: also that it is nothing, or that it was cut. */
export function GeneratedText({ answer }: { answer: Pick<Sample, 'text' | 'finish_reason'> }) {
  const { text, finish_reason: reason } = answer;
  return (
    <>
      {text === '' ? <span class="muted">(ends at once)</span> : text}
      {reason === 'length' && <span title="The answer reached its limit."> …</span>}
    </>
  );
}
