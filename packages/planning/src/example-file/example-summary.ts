import { Fault, RenderedRow } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

const count = Type.Integer({ minimum: 0 });
const closed = { additionalProperties: false };

const FileDigest = Type.Object({ bytes: count, sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }) }, closed);

/** What happened to the rows, as the report counts it. */
export const RowCounts = Type.Object(
  { overflowed: count, dropped: count, truncated: count, split: count, longest: count },
  closed,
);
export type RowCounts = Static<typeof RowCounts>;

/** What a job's report says of the rows, besides how they are split. */
export const ExampleNotes = Type.Object(
  { counts: RowCounts, warnings: Type.Array(Fault), rendered: Type.Union([RenderedRow, Type.Null()]) },
  closed,
);
export type ExampleNotes = Static<typeof ExampleNotes>;

/** Written last, beside the files that it describes. */
export const ExampleSummary = Type.Object(
  {
    /** Examples in the file. */
    count,
    notes: ExampleNotes,
    files: Type.Object({ index: FileDigest, words: FileDigest }, closed),
  },
  closed,
);
export type ExampleSummary = Static<typeof ExampleSummary>;

/** Names within the folder of an example file. */
export const EXAMPLE_FILES = { index: 'index.bin', words: 'words.bin', summary: 'summary.json' } as const;

const schema = Compile(ExampleSummary);

export function isExampleSummary(value: unknown): value is ExampleSummary {
  return schema.Check(value);
}
