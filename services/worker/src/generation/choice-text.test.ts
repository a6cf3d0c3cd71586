import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { GenerationChunk } from '@lorasmith/contracts';
import { loadTokenizer, TextStream, type Tokenizer } from '@lorasmith/model-folder';
import { beforeAll, describe, expect, test } from 'vitest';
import { ChoiceText, StopTexts, TokenTexts } from './choice-text.js';
import { CallParser, type ChoiceCalls } from './tool-calls.js';

const TOKENIZERS = new URL('../../../../packages/model-folder/src/fixtures/tokenizers/', import.meta.url);
const folderOf = (name: string) => fileURLToPath(new URL(name, TOKENIZERS));
const readJson = async (file: string) => JSON.parse(await readFile(new URL(file, TOKENIZERS), 'utf8'));

describe('a text as it comes', () => {
  test.each(['llama3', 'qwen2', 'smollm', 'llama2-legacy', 'llama2-metaspace'])(
    '%s: the pieces together are what the tokens decode to at once',
    async (name) => {
      const tokenizer = await loadTokenizer(folderOf(name));
      const expected: { ids_with_special: number[] }[] = await readJson(`${name}/expected.json`);
      for (const { ids_with_special: ids } of expected) {
        // The library's decoder removes a byte order mark that is encoded as bytes.
        if (name.startsWith('llama2') && tokenizer.decode(ids).includes('\uFEFF')) continue;
        const stream = new TextStream(tokenizer, []);
        const pieces = ids.map((id) => stream.push(id));
        const whole = tokenizer.decode(ids, { skipSpecialTokens: true });
        expect(pieces.join('') + stream.end()).toBe(whole);
        // No piece ends within a character.
        if (!whole.includes('\uFFFD')) expect(pieces.filter((piece) => piece.includes('\uFFFD'))).toEqual([]);
        // Divided anywhere, the rest continues the text with the space before it.
        const half = Math.floor(ids.length / 2);
        const rest = new TextStream(tokenizer, ids.slice(0, half));
        const before = tokenizer.decode(ids.slice(0, half), { skipSpecialTokens: true });
        const continued = ids.slice(half).map((id) => rest.push(id));
        if (before !== '' && !before.endsWith('\uFFFD')) expect(before + continued.join('') + rest.end()).toBe(whole);
      }
    },
  );

  test('of tokens that are no text, it comes all the same', async () => {
    const tokenizer = await loadTokenizer(folderOf('smollm'));
    const [first] = tokenizer.encode('é').length > 1 ? tokenizer.encode('é') : tokenizer.encode('𒀀');
    const stream = new TextStream(tokenizer, []);
    const pieces = Array.from({ length: 200 }, () => stream.push(first!));
    expect(pieces.filter((piece) => piece !== '').length).toBeGreaterThan(5);
  });
});

test('stop texts are found wherever the text is divided, and nothing of them is let through', () => {
  const TEXT = 'aabaabaaabcabcd';
  for (const stops of [['aab'], ['abc', 'bcabcd'], ['aaa', 'b'], ['x'], ['cd', 'd'], ['abcabcd', 'bc']]) {
    const ends = stops.map((stop) => ({ start: TEXT.indexOf(stop), end: TEXT.indexOf(stop) + stop.length }));
    const [first] = ends
      .filter(({ start }) => start >= 0)
      .sort((one, other) => one.end - other.end || one.start - other.start);
    for (let size = 1; size <= TEXT.length; size++) {
      const scanner = new StopTexts(stops);
      let said = '';
      let stopped = false;
      for (let place = 0; place < TEXT.length && !stopped; place += size) {
        const found = scanner.push(TEXT.slice(place, place + size));
        said += found.text;
        stopped = found.stopped;
      }
      if (!stopped) said += scanner.end();
      expect([said, stopped], `${stops} by ${size}`).toEqual([TEXT.slice(0, first?.start), first !== undefined]);
    }
  }
});

describe('a choice', () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(folderOf('smollm'));
  });

  const choiceOf = (prompt: string, stop: string[] = [], calls: ChoiceCalls | null = null) => {
    const pieces: GenerationChunk[] = [];
    const promptIds = tokenizer.encode(prompt);
    const tokenTexts = new TokenTexts(tokenizer);
    const onChunk = (piece: GenerationChunk) => pieces.push(piece);
    return {
      text: new ChoiceText({ choice: 0, promptIds, tokenizer, tokenTexts, stop, calls, onChunk }),
      pieces,
      promptIds,
    };
  };
  const scored = (id: number) => ({ id, logprob: -1, top: [{ id, logprob: -1 }] });
  const said = (pieces: GenerationChunk[]) => pieces.map((piece) => (piece.type === 'text' ? piece.text : '')).join('');
  const tokensOf = (pieces: GenerationChunk[]) =>
    pieces.flatMap((piece) => (piece.type === 'text' ? piece.tokens : []));

  test('has each token where it starts in the text, those of the prompt first', () => {
    const { text, pieces, promptIds } = choiceOf('Say 😀 twice: ');
    for (const [place, id] of promptIds.entries()) text.promptToken(id, place === 0 ? null : scored(id), true);
    const ids = tokenizer.encode('naïve 😀!');
    for (const id of ids) expect(text.push(id, scored(id))).toBe(false);
    text.finish('length');
    expect(said(pieces)).toBe('Say 😀 twice: naïve 😀!');
    expect(pieces.at(-1)).toEqual({ type: 'finish', choice: 0, reason: 'length' });
    const tokens = tokensOf(pieces);
    expect(tokens).toHaveLength(promptIds.length + ids.length);
    expect(tokens[0]).toMatchObject({ logprob: null, top: [], offset: 0 });
    const characters = [...said(pieces)];
    for (const { text: own, bytes, offset } of tokens) {
      if (bytes === null) continue;
      expect(characters.slice(offset, offset + [...own].length).join('')).toBe(own);
    }
  });

  test('ends at a stop text, without the tokens of it', () => {
    const { text, pieces } = choiceOf('Count:', ['four']);
    const ids = [...tokenizer.encode(' three four five')];
    const stoppedAt = ids.findIndex((id) => text.push(id, scored(id)));
    expect(stoppedAt).toBeGreaterThan(0);
    expect(said(pieces)).toBe(' three ');
    expect(pieces.at(-1)).toEqual({ type: 'finish', choice: 0, reason: 'stop' });
    expect(tokensOf(pieces).every(({ offset }) => offset < said(pieces).length)).toBe(true);
  });

  test('a choice that ends within the start of a stop text has that start', () => {
    const { text, pieces } = choiceOf('Count:', ['four five']);
    for (const id of tokenizer.encode(' three four')) text.push(id, null);
    text.finish('stop');
    expect(said(pieces)).toBe(' three four');
  });

  test('has calls of tools apart from its text, also where special tokens announce them', () => {
    const [special] = [...tokenizer.specialTokens.keys()].filter((id) => id !== tokenizer.eosTokenId);
    const syntax = { before: '[TOOL_CALLS]', after: '</s>', form: { kind: 'named', middle: '[ARGS]' } } as const;
    for (const isOne of [false, true]) {
      const calls = { parser: new CallParser(syntax, ['f']), tokens: new Map([[special!, '[TOOL_CALLS]']]), isOne };
      const { text, pieces } = choiceOf('Ask:', [], calls);
      const ids = [...tokenizer.encode('Yes'), special!, ...tokenizer.encode('f[ARGS]{"a": 1}')];
      const twice = [...ids, special!, ...tokenizer.encode('f[ARGS]{}')];
      const stoppedAt = twice.findIndex((id) => text.push(id, null));
      if (stoppedAt === -1) text.finish('stop');
      expect(stoppedAt).toBe(isOne ? ids.length - 1 : -1);
      expect(pieces.filter(({ type }) => type !== 'text')).toEqual([
        { type: 'call', choice: 0, name: 'f', arguments: '{"a":1}' },
        ...(isOne ? [] : [{ type: 'call', choice: 0, name: 'f', arguments: '{}' }]),
        { type: 'finish', choice: 0, reason: 'stop' },
      ]);
      expect(said(pieces)).toBe('Yes');
    }
  });
});
