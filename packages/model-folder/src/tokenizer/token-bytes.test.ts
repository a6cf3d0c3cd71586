import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadTokenizer, tokenBytesOf } from './tokenizer.js';

const TEXT = '{"name": "Zoë 😀",\n\t"a": [1, 2.5]}  naïve 漢字\u0000';

test.each(['llama3', 'qwen2', 'smollm', 'llama2-legacy', 'llama2-metaspace', 'gemma'])(
  '%s: the bytes of the tokens of a text are those of the text',
  async (name) => {
    const tokenizer = await loadTokenizer(fileURLToPath(new URL(`../fixtures/tokenizers/${name}`, import.meta.url)));
    const bytes = tokenizer.tokenBytes()!;
    expect(bytes).toHaveLength(tokenizer.vocabSize);
    for (const id of tokenizer.specialTokens.keys()) expect(bytes[id]).toBeNull();
    const text = Buffer.concat([...tokenizer.encode(TEXT)].map((id) => bytes[id] ?? Buffer.from('?'))).toString();
    // SentencePiece begins every text with a space.
    expect([TEXT, ` ${TEXT}`]).toContain(text);
  },
);

test('a tokenizer whose decoder is another has none', () => {
  const model = { vocab: { a: 0 } };
  expect(tokenBytesOf({ model, decoder: { type: 'WordPiece', prefix: '##' } }, 1)).toBeNull();
  expect(tokenBytesOf({ model, decoder: null }, 1)).toBeNull();
});
