import { fileURLToPath } from 'node:url';
import type { GenerationChunk } from '@lorasmith/contracts';
import { loadTokenizer, type Tokenizer } from '@lorasmith/model-folder';
import { beforeAll, expect, test } from 'vitest';
import { SampledTokens } from './sampled-tokens.js';

const SMOLLM = new URL('../../../../packages/model-folder/src/fixtures/tokenizers/smollm', import.meta.url);

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(fileURLToPath(SMOLLM));
});

function choiceOf(stop: string[] = []) {
  const chunks: GenerationChunk[] = [];
  const promptIds = tokenizer.encode('Count:');
  const onChunk = (chunk: GenerationChunk) => chunks.push(chunk);
  return { tokens: new SampledTokens({ choice: 2, promptIds, reportsPrompt: true, tokenizer, stop, onChunk }), chunks };
}
const scored = (id: number, alternatives = 0) => ({
  id,
  logprob: -id,
  top: Array.from({ length: alternatives }, (_, place) => ({ id: place, logprob: -place })),
});

test('a long prompt and a long choice are sent in parts, in their order', () => {
  const { tokens, chunks } = choiceOf();
  for (let id = 0; id < 2_500; id++) tokens.promptToken(id, id === 0 ? null : scored(id));
  for (let id = 0; id < 1_200; id++) expect(tokens.push(id, scored(id, 1))).toBe(false);
  tokens.finish('length');
  const sizes = chunks.map((chunk) => ('tokens' in chunk && 'ids' in chunk.tokens ? chunk.tokens.ids.length : 0));
  expect(sizes).toEqual([1_000, 1_000, 500, 500, 500, 200, 0]);
  expect(chunks.map(({ type }) => type)).toEqual([
    ...new Array<string>(3).fill('prompt-scored'),
    ...new Array<string>(3).fill('tokens'),
    'finish',
  ]);
  const prompt = chunks.flatMap((chunk) => (chunk.type === 'prompt-scored' ? [chunk.tokens] : []));
  expect(prompt.flatMap(({ ids }) => ids)).toEqual(Array.from({ length: 2_500 }, (_, id) => id));
  expect(prompt[0]!.logprobs.slice(0, 3)).toEqual([null, -1, -2]);
  expect(prompt[0]!.top).toEqual([]);
  const sampled = chunks.flatMap((chunk) => (chunk.type === 'tokens' ? [chunk.tokens] : []));
  expect(sampled[1]!.top).toEqual(new Array(500).fill([[0, -0]]));
});

test.each([
  ['within one token', ' three four five', ['ou'], ' three four'],
  ['over several tokens', ' three four five', ['ee fou'], ' three four'],
  ['of a special token', ' three<|im_end|> four', ['<|im_end|>'], ' three<|im_end|>'],
  ['with a character of several tokens', ' three 😀 four', ['😀'], ' three 😀'],
])('a stop text %s ends the choice, and its tokens are a part of it', (_, text, stop, expected) => {
  const { tokens, chunks } = choiceOf(stop);
  const ids = [...tokenizer.encode(text)];
  const stoppedAt = ids.findIndex((id) => tokens.push(id, scored(id)));
  expect(tokenizer.decode(ids.slice(0, stoppedAt + 1), { skipSpecialTokens: false })).toBe(expected);
  expect(chunks).toEqual([
    { type: 'tokens', choice: 2, tokens: { ids: ids.slice(0, stoppedAt + 1), logprobs: expect.any(Array), top: [] } },
    { type: 'finish', choice: 2, reason: 'stop' },
  ]);
});

test('what a model rules out has a number, as JSON has no infinity', () => {
  const { tokens, chunks } = choiceOf();
  const top = [{ id: 8, logprob: Number.NEGATIVE_INFINITY }];
  tokens.push(7, { id: 7, logprob: -0.5, top });
  tokens.finish('stop');
  expect(chunks[0]).toMatchObject({ tokens: { ids: [7], logprobs: [-0.5], top: [[[8, -9999]]] } });
});
