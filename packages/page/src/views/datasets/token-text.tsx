import { countText } from '@lorasmith/client/core';
import type { RowToken, RowTokens } from '@lorasmith/contracts';
import { type TokenRun, tokenRuns, visibleText } from './token-runs.js';

const OUTCOMES: Record<RowTokens['outcome'], string> = {
  complete: 'trained on as it is',
  refused: 'too long: the job would be refused',
  dropped: 'left out of the training',
  truncated: 'cut at max_seq_length',
  split: 'cut into parts',
};

/**
 * The tokens of a row. What is trained is underlined on a coloured ground, what is left out is struck through, and both are said to
 * screen readers.
 */
export function TokenText({ tokens, showsIds }: { tokens: RowTokens; showsIds: boolean }) {
  const { total, trained, outcome, sequences, data } = tokens;
  return (
    <>
      <p class="fine-print">
        {countText(total)} tokens, {countText(trained)} <mark class="trained">trained</mark>; {OUTCOMES[outcome]}
        {outcome === 'split' && `, of which ${countText(sequences.length)} are trained on`}
      </p>
      <p class={showsIds ? 'token-text token-text-ids' : 'token-text'}>
        {tokenRuns(tokens).map((run, index) => (
          <Run key={index} run={run} showsIds={showsIds} />
        ))}
      </p>
      {data.length < total && <p class="fine-print">The first {countText(data.length)} tokens are shown.</p>}
    </>
  );
}

function Run({ run: { use, isCut, tokens }, showsIds }: { run: TokenRun; showsIds: boolean }) {
  const texts = tokens.map((token, index) => <Token key={index} token={token} showsId={showsIds} />);
  return (
    <>
      {isCut && (
        <span class="cut">
          <span class="visually-hidden">, next sequence: </span>
        </span>
      )}
      {use === 'read' && texts}
      {use === 'trained' && (
        <mark class="trained">
          <span class="visually-hidden"> (trained: </span>
          {texts}
          <span class="visually-hidden">) </span>
        </mark>
      )}
      {use === 'left-out' && (
        <s>
          <span class="visually-hidden"> (left out: </span>
          {texts}
          <span class="visually-hidden">) </span>
        </s>
      )}
    </>
  );
}

function Token({ token: { id, text }, showsId }: { token: RowToken; showsId: boolean }) {
  return (
    <>
      <span class="token">
        {showsId ? visibleText(text).replaceAll('\n', '') : visibleText(text)}
        {showsId && <sub>{id}</sub>}
      </span>
      {showsId && <wbr />}
    </>
  );
}
