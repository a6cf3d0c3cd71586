import { loadTokenizer } from '@lorasmith/model-folder';
import { expect, test } from 'vitest';
import { promptAt } from './probe-texts.js';

const TOKENIZERS = new URL('../../../model-folder/src/fixtures/tokenizers/', import.meta.url).pathname;

test.each(['llama3', 'llama2-legacy', 'llama2-metaspace', 'smollm', 'qwen2'])(
  'with the tokenizer of %s, a server that reads the prompt reads the tokens',
  async (name) => {
    const tokenizer = await loadTokenizer(`${TOKENIZERS}${name}`);
    const ids = tokenizer.encodeWithSpecialTokens('On 3 May 2019 at 10:30 the — “best” thing was that it');
    const prompts = Array.from(ids, (_, position) => promptAt({ ids, positions: [] }, position, tokenizer));
    const found = prompts.flatMap((prompt) => prompt ?? []);
    // Half a character, or half of what is one token, ends no prompt.
    expect(found.length).toBeGreaterThan(ids.length / 2);
    for (const { prompt, tokenIds } of found) {
      expect([...tokenizer.encodeWithSpecialTokens(prompt)]).toEqual(tokenIds);
      if (name.startsWith('llama')) expect(prompt.startsWith('<')).toBe(false);
    }
    expect(found.at(-1)!.tokenIds).toEqual([...ids]);
  },
);
