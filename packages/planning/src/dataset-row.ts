import {
  DATASET_FORMATS,
  type DatasetFormat,
  DatasetRow,
  type ErrorCode,
  type Fault,
  type FeaturesRow,
  listHint,
  type MessagesRow,
  rowHint,
  type TextualRow,
} from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';

/** A fault within one row; whoever reads the file adds the line. */
export type RowFault = Fault & { code: ErrorCode };

export type CheckedRow =
  | { format: 'features'; row: FeaturesRow; faults: [] }
  | { format: Exclude<DatasetFormat, 'features'>; row: TextualRow; faults: [] }
  | { format: DatasetFormat | null; row: null; faults: RowFault[] };

/** More tell nothing new about one row, and a list of a million wrong numbers must not become a million faults. */
const MAX_FAULTS_PER_ROW = 8;

/** The keys that tell a format from the others, in the order they are looked for. */
const TELLING_KEYS: [key: string, format: DatasetFormat][] = [
  ['messages', 'messages'],
  ['prompt', 'prompt_completion'],
  ['completion', 'prompt_completion'],
  ['instruction', 'instruction'],
  ['output', 'instruction'],
  ['text', 'text'],
  ['features', 'features'],
];

const KEYS_OF_FORMAT: Record<DatasetFormat, string> = {
  messages: '"messages"',
  prompt_completion: '"prompt" and "completion"',
  instruction: '"instruction", "output" and optionally "input"',
  text: '"text"',
  features: '"features" and "label"',
};

const validators = {
  messages: Compile(DatasetRow.messages),
  prompt_completion: Compile(DatasetRow.prompt_completion),
  instruction: Compile(DatasetRow.instruction),
  text: Compile(DatasetRow.text),
  features: Compile(DatasetRow.features),
};

/** The format a row has by its keys, whether or not the rest of it is right; null when no key tells. */
export function detectFormat(row: unknown): DatasetFormat | null {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return null;
  for (const [key, format] of TELLING_KEYS) {
    if (Object.hasOwn(row, key)) return format;
  }
  return null;
}

/**
 * Checks one parsed row of a dataset: the schema of its format, and what a schema cannot say (something to learn from,
 * text that is valid Unicode, numbers that float32 holds).
 *
 * @param row - What `JSON.parse` made of the line.
 * @returns The row with its format and no faults, or the faults (`invalid_dataset`, `unknown_field`,
 * `no_trained_tokens`) with `param` as the path within the row, for instance `messages.0.role`.
 */
export function checkRow(row: unknown): CheckedRow {
  const format = detectFormat(row);
  if (format === null) {
    const known = DATASET_FORMATS.map((name) => KEYS_OF_FORMAT[name]).join('; ');
    const message = `No known row format. ${rowHint(row) ?? `A row is an object with ${known}.`}`;
    return refuse(null, [{ code: 'invalid_dataset', message }]);
  }
  const validator = validators[format];
  if (!validator.Check(row)) return refuse(format, schemaFaults(format, row));
  if (format === 'features') {
    const featuresRow = row as FeaturesRow;
    const faults = numberFaults(featuresRow);
    return faults.length > 0 ? refuse(format, faults) : { format, row: featuresRow, faults: [] };
  }
  const textualRow = row as TextualRow;
  const faults = [...unicodeFaults(textualRow), ...emptinessFaults(textualRow)];
  return faults.length > 0 ? refuse(format, faults) : { format, row: textualRow, faults: [] };
}

function refuse(format: DatasetFormat | null, faults: RowFault[]): CheckedRow {
  return { format, row: null, faults: faults.slice(0, MAX_FAULTS_PER_ROW) };
}

function schemaFaults(format: DatasetFormat, row: unknown): RowFault[] {
  const faults: RowFault[] = [];
  const errors = validators[format].Errors(row);
  // Where a key is missing too, this may be it under another name.
  const advice = errors.some(({ keyword }) => keyword === 'required') ? '' : ' Leave it out.';
  for (const error of errors) {
    const path = pathOf(error.instancePath);
    const at = (key: string) => (path === '' ? key : `${path}.${key}`);
    if (error.keyword === 'boolean') continue; // the same as additionalProperties, said once more for each key
    if (error.keyword === 'additionalProperties') {
      for (const key of error.params.additionalProperties) {
        const allowed = path === '' ? KEYS_OF_FORMAT[format] : '"role" and "content"';
        const message = `Unknown key ${JSON.stringify(key.slice(0, 64))}: this object has ${allowed}.${advice}`;
        faults.push({ code: 'unknown_field', message, param: at(key.slice(0, 64)) });
      }
    } else if (error.keyword === 'required') {
      for (const key of error.params.requiredProperties) {
        faults.push({ code: 'invalid_dataset', message: `The key "${key}" is missing.`, param: at(key) });
      }
    } else {
      const allowed = error.keyword === 'enum' ? `: ${error.params.allowedValues.join(', ')}` : '';
      const hint = Array.isArray(valueAt(row, path)) ? listHint(path.slice(path.lastIndexOf('.') + 1)) : undefined;
      const message = `The value ${error.message}${allowed}.${hint === undefined ? '' : ` ${hint}`}`;
      faults.push({ code: 'invalid_dataset', message, param: path });
    }
  }
  return faults;
}

function pathOf(instancePath: string): string {
  return instancePath.slice(1).replaceAll('/', '.');
}

/** Only for paths of schemas, whose keys have no dots. */
function valueAt(row: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], row);
}

function numberFaults({ features, label }: FeaturesRow): RowFault[] {
  const faults: RowFault[] = [];
  for (const [index, value] of features.entries()) {
    if (Number.isFinite(Math.fround(value))) continue;
    const message = `${value} is beyond what float32 holds (about 3.4e38).`;
    faults.push({ code: 'invalid_dataset', message, param: `features.${index}` });
    if (faults.length === MAX_FAULTS_PER_ROW) break;
  }
  // Labels are stored as int32 and no classifier has more classes.
  if (label > 0x7fffffff) {
    faults.push({
      code: 'invalid_dataset',
      message: `Label ${label} is too large: at most 2147483647.`,
      param: 'label',
    });
  }
  return faults;
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/** A lone surrogate (possible through `\ud800` in JSON) has no UTF-8, so tokenizers would each make something else of it. */
function unicodeFaults(row: TextualRow): RowFault[] {
  return textsOf(row)
    .filter(([, text]) => LONE_SURROGATE.test(text))
    .map(([param]) => ({
      code: 'invalid_dataset',
      message: 'The text has a lone surrogate (\\ud800 to \\udfff).',
      param,
    }));
}

function emptinessFaults(row: TextualRow): RowFault[] {
  if ('messages' in row) return assistantFaults(row);
  const learned = 'completion' in row ? 'completion' : 'output' in row ? 'output' : 'text';
  const text = textsOf(row).find(([param]) => param === learned)?.[1];
  if (text !== '') return [];
  return [
    { code: 'no_trained_tokens', message: `"${learned}" is empty, so there is nothing to learn.`, param: learned },
  ];
}

function assistantFaults({ messages }: MessagesRow): RowFault[] {
  if (!messages.some(({ role }) => role === 'assistant')) {
    const message = 'There is no message with the role "assistant", so there is nothing to learn.';
    return [{ code: 'no_trained_tokens', message, param: 'messages' }];
  }
  return messages.flatMap(({ role, content }, index): RowFault[] =>
    role === 'assistant' && content === ''
      ? [{ code: 'no_trained_tokens', message: 'The assistant says nothing here.', param: `messages.${index}.content` }]
      : [],
  );
}

function textsOf(row: TextualRow): [param: string, text: string][] {
  if ('messages' in row) return row.messages.map(({ content }, index) => [`messages.${index}.content`, content]);
  return Object.entries(row).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
}
