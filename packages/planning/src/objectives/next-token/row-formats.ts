import { DatasetRow, type MessagesRow, type TextualRow } from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import type { RowFault, RowFormat } from '../objective.js';

const faults = (row: unknown) => [...unicodeFaults(row as TextualRow), ...emptinessFaults(row as TextualRow)];

/** Rows of text, in the order in which their keys are looked for. */
export const TEXT_FORMATS: readonly RowFormat[] = [
  {
    name: 'messages',
    tellingKeys: ['messages'],
    keys: '"messages"',
    schema: Compile(DatasetRow.messages),
    faults,
  },
  {
    name: 'prompt_completion',
    tellingKeys: ['prompt', 'completion'],
    keys: '"prompt" and "completion"',
    schema: Compile(DatasetRow.prompt_completion),
    faults,
  },
  {
    name: 'instruction',
    tellingKeys: ['instruction', 'output'],
    keys: '"instruction", "output" and optionally "input"',
    schema: Compile(DatasetRow.instruction),
    faults,
  },
  { name: 'text', tellingKeys: ['text'], keys: '"text"', schema: Compile(DatasetRow.text), faults },
];

/** A lone surrogate (`\ud800` in JSON) has no UTF-8 form, so every tokenizer would make something else of it. */
function unicodeFaults(row: TextualRow): RowFault[] {
  const texts = 'messages' in row ? row.messages.map(({ content }) => content) : Object.values(row);
  if (texts.every((text) => text.isWellFormed())) return [];
  return textsOf(row)
    .filter(([, text]) => !text.isWellFormed())
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
    { code: 'no_trained_tokens', message: `"${learned}" is empty, so there is nothing to train.`, param: learned },
  ];
}

function assistantFaults({ messages }: MessagesRow): RowFault[] {
  if (!messages.some(({ role }) => role === 'assistant')) {
    const message = 'There is no message with the role "assistant", so there is nothing to train.';
    return [{ code: 'no_trained_tokens', message, param: 'messages' }];
  }
  const faults: RowFault[] = [];
  for (const [index, { role, content }] of messages.entries()) {
    if (role !== 'assistant' || content !== '') continue;
    const message = "The assistant's message is empty.";
    faults.push({ code: 'no_trained_tokens', message, param: `messages.${index}.content` });
  }
  return faults;
}

function textsOf(row: TextualRow): [param: string, text: string][] {
  if ('messages' in row) return row.messages.map(({ content }, index) => [`messages.${index}.content`, content]);
  return Object.entries(row).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
}
