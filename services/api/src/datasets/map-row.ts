import type { Fault } from '@lorasmith/contracts';
import { usedColumns } from '@lorasmith/planning';
import { type ColumnMapping, mapColumns } from '@lorasmith/row-files';
import { mapConversation } from './map-conversation.js';

/** A row in one of our formats. */
export interface MappedRow {
  row: unknown;
  /** The changes of the row in words, besides columns that were left out. */
  mappings: readonly string[];
  /** Names of the columns that are not used. */
  leftOut: readonly string[];
}

const SHAREGPT = 'ShareGPT\'s "conversations" became "messages"';

/**
 * Gives the columns of a row the names of the mapping, maps a row of another tool where that is plain, and leaves out columns that are not
 * used. The row is not checked yet.
 * @returns the faults of a row that would be misunderstood, or lacks a column of the mapping
 */
export function mapRow(value: unknown, columns?: ColumnMapping): MappedRow | Fault[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { row: value, mappings: [], leftOut: [] };
  }
  if (columns === undefined) return mapKnownRow(value as Record<string, unknown>);
  const named = mapColumns(value as Record<string, unknown>, columns);
  if (Array.isArray(named)) return named;
  const mapped = mapKnownRow(named.row);
  if (Array.isArray(mapped)) return mapped;
  const mappings = [...(named.mapping === null ? [] : [named.mapping]), ...mapped.mappings];
  return { row: mapped.row, mappings, leftOut: [...named.leftOut, ...mapped.leftOut] };
}

function mapKnownRow(row: Record<string, unknown>): MappedRow | Fault[] {
  const misleading = misleadingColumn(row);
  if (misleading !== null) return [misleading];
  if (!isSharegpt(row)) return { ...usedColumns(row), mappings: [] };

  const { conversations, system, tools, ...others } = row;
  if (tools != null && tools !== '' && tools !== '[]' && !Array.isArray(tools)) {
    return [invalid('"tools" must be a list of {"type": "function", "function"}, not text.', 'tools')];
  }
  const conversation = mapConversation(conversations, system);
  if (Array.isArray(conversation)) return conversation;
  const { messages, leftOut } = conversation;
  const mapped = { ...others, messages, ...(Array.isArray(tools) && tools.length > 0 ? { tools } : {}) };
  const used = usedColumns(mapped);
  return { row: used.row, mappings: [SHAREGPT], leftOut: [...used.leftOut, ...leftOut] };
}

function isSharegpt(row: Record<string, unknown>): boolean {
  return Object.hasOwn(row, 'conversations') && !Object.hasOwn(row, 'messages');
}

/** A column that says which rows are wanted, or what a row lacks: without it something else would be trained. */
function misleadingColumn(row: Record<string, unknown>): Fault | null {
  const has = (name: string) => Object.hasOwn(row, name);
  if (has('kto_tag')) return invalid(KTO, 'kto_tag');
  if (typeof row.label === 'boolean') return isLabelled(row) ? null : invalid(KTO, 'label');
  if (has('label') && !has('features') && ['messages', 'conversations', 'completion', 'output', 'text'].some(has)) {
    return invalid(TEXT_WITH_LABEL, 'label');
  }
  const isPair = has('chosen') || has('rejected');
  if (isPair && isSharegpt(row)) return invalid(SHAREGPT_PAIR, has('chosen') ? 'chosen' : 'rejected');
  const isInputOutput = has('input') && has('output') && !has('instruction') && !has('messages') && !has('prompt');
  return isInputOutput ? invalid(INPUT_OUTPUT, 'instruction') : null;
}

/** Whether a row is an answer with a label, and nothing else that would be trained without it. */
function isLabelled(row: Record<string, unknown>): boolean {
  const has = (name: string) => Object.hasOwn(row, name);
  return ['prompt', 'completion'].some(has) && !['messages', 'conversations', 'chosen', 'rejected'].some(has);
}

const KTO =
  'This says whether an answer is wanted, as KTO trains it. Without it every row would be trained as wanted. Send {"prompt", ' +
  '"completion", "label": true or false}, the first two as text or as lists of messages, or upload with columns=, such as ' +
  'columns=prompt:instruction,completion:output,label:kto_tag.';
const SHAREGPT_PAIR =
  'Pairs of answers to "conversations" are not supported: only the conversation would be trained. Send {"prompt": [messages], ' +
  '"chosen": [messages], "rejected": [messages]} with "role" and "content".';
const TEXT_WITH_LABEL =
  'Texts are not classified here. To train the model to write the label, send {"prompt": the text, "completion": the label}; ' +
  'to train it on the text alone, leave the label out, or upload with columns=text. A label of KTO is true or false, no text and no number.';
const INPUT_OUTPUT =
  'A row with "input" and "output" alone is no format. Send {"prompt": the input, "completion": the output}, or upload with ' +
  'columns=prompt:input,completion:output. With a task for every row, send {"instruction", "input", "output"}.';

function invalid(message: string, param: string): Fault {
  return { code: 'invalid_dataset', message, param };
}
