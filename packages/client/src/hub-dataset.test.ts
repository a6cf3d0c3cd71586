import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { chooseRowFiles, MAX_PULLED_BYTES } from './hub-dataset.js';

function chosen(
  names: readonly string[],
  { split = 'train', file = undefined as string | undefined, bytes = 10 } = {},
) {
  const files = names.map((name) => ({ name, bytes, digest: `sha256:${'0'.repeat(64)}` }));
  try {
    const wanted = { repo: 'org/rows', revision: 'main', split, file };
    return chooseRowFiles(files, wanted).map(({ name }) => name);
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

const SHARDS = [
  'data/train-00001-of-00002-0123456789abcdef.parquet',
  'data/test-00000-of-00001.parquet',
  'data/train-00000-of-00002-fedcba9876543210.parquet',
];
const CHATS = ['data/train_sft-00000-of-00001.parquet', 'data/train_gen-00000-of-00001.parquet'];
const LANGUAGES = ['en/train.csv', 'de/train.csv', 'de/test.csv'];
const CONVERTED = ['default/train/0001.parquet', 'default/train/0000.parquet', 'default/test/0000.parquet'];

test.each<[string, readonly string[], Parameters<typeof chosen>[1], readonly string[]]>([
  ['the shards of a split, in their order', SHARDS, {}, [SHARDS[2]!, SHARDS[0]!]],
  ['the shards of another split', SHARDS, { split: 'test' }, [SHARDS[1]!]],
  ['what the hub has converted', CONVERTED, {}, [CONVERTED[1]!, CONVERTED[0]!]],
  ['a file of the name of the split', ['README.md', 'train.jsonl', 'test.jsonl'], {}, ['train.jsonl']],
  ['a compressed file', ['train.jsonl.gz', 'valid.jsonl.zst'], { split: 'valid' }, ['valid.jsonl.zst']],
  ['a file in a folder of the name of the split', ['train/part.csv', 'test/part.csv'], {}, ['train/part.csv']],
  ['the only file, which names no split', ['alpaca_data.json', 'dataset_infos.json'], {}, ['alpaca_data.json']],
  ['the file without a split beside one with another', ['rows.jsonl', 'test.jsonl'], {}, ['rows.jsonl']],
  ['a split of several words', CHATS, { split: 'train_sft' }, [CHATS[0]!]],
  [
    'a split that is a word of another one',
    ['data/train-00000-of-00001.parquet', ...CHATS],
    {},
    ['data/train-00000-of-00001.parquet'],
  ],
  ['a split whatever its case', ['Train.jsonl', 'Test.jsonl'], { split: 'TRAIN' }, ['Train.jsonl']],
  ['the files of a folder', LANGUAGES, { file: 'de/' }, ['de/train.csv']],
  ['a file that is named, of whatever split', LANGUAGES, { file: 'de/test.csv' }, ['de/test.csv']],
  ['a shard that is named', SHARDS, { file: SHARDS[0]! }, [SHARDS[0]!]],
])('%s', (_what, names, wanted, expected) => {
  expect(chosen(names, wanted)).toEqual(expected);
});

test.each<[string, readonly string[], Parameters<typeof chosen>[1], string]>([
  ['no file of rows', ['README.md', 'rows.py', 'state.json'], {}, 'invalid_request: org/rows at main has no JSONL'],
  [
    'several files',
    LANGUAGES,
    {},
    'has several files of the split "train": en/train.csv, de/train.csv. Name one with --file',
  ],
  ['the same rows in two forms', ['train.csv', 'train.jsonl'], {}, 'has several files of the split "train"'],
  [
    'several files without a split',
    ['a.jsonl', 'b.jsonl'],
    {},
    'has several files of the split "train": a.jsonl, b.jsonl.',
  ],
  ['two splits of one word', CHATS, {}, 'has several files of the split "train"'],
  [
    'no such split',
    SHARDS,
    { split: 'dev' },
    `has no file of the split "dev". It has ${SHARDS.join(', ')}. Name another split`,
  ],
  ['only another split', ['test.jsonl'], {}, 'has no file of the split "train". It has test.jsonl.'],
  [
    'no such file',
    LANGUAGES,
    { file: 'fr' },
    'has no file of rows "fr". It has en/train.csv, de/train.csv, de/test.csv.',
  ],
  [
    'a shard that is missing',
    [SHARDS[0]!],
    {},
    'invalid_dataset: org/rows at main lacks some of the files data/train-of-00002.parquet: it has 1 of 2.',
  ],
  ['a first shard that is missing', [CONVERTED[0]!], {}, 'lacks some of the files default/train/*.parquet: it has 1.'],
  [
    'too many bytes',
    ['train.csv'],
    { bytes: MAX_PULLED_BYTES + 1 },
    'body_too_large: org/rows at main: train.csv have',
  ],
  ['names that change a terminal', ['train\u001b[2J.csv'], {}, 'has no JSONL'],
  ['many files', Array.from({ length: 30 }, (_, i) => `part${i}.csv`), {}, 'part19.csv and 10 more. Name one'],
])('refuses %s', (_what, names, wanted, message) => {
  expect(chosen(names, wanted)).toContain(message);
});
