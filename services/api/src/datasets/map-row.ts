import type { Fault } from '@lorasmith/contracts';
import { usedColumns } from '@lorasmith/planning';
import { type ColumnMapping, mapColumns } from '@lorasmith/row-files';

/** A row in one of our formats. */
export interface MappedRow {
  row: unknown;
  /** Descriptions of the changes of the row, without the columns that were left out. */
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

/** True if a row is an answer with a label, and nothing else that would be trained without it. */
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

/** A conversation in the form of `messages`. */
interface MappedConversation {
  messages: object[];
  /** Names of the fields of turns that are not used. */
  leftOut: readonly string[];
}

/** Names of a sender, and the role that it has in `messages`. */
const ROLES: ReadonlyMap<unknown, string> = new Map([
  ['system', 'system'],
  ['human', 'user'],
  ['user', 'user'],
  ['gpt', 'assistant'],
  ['assistant', 'assistant'],
]);
const TOOL_SENDERS: ReadonlySet<unknown> = new Set([
  'function_call',
  'function_response',
  'tool_call',
  'tool_response',
  'observation',
  'tool',
]);

const COLUMN = 'conversations';

/**
 * The turns of a ShareGPT row, `{"from", "value"}` or `{"role", "content"}`, with the text of its column `system` before them.
 * @returns the faults of a row that cannot be mapped
 */
function mapConversation(turns: unknown, system: unknown): MappedConversation | Fault[] {
  if (!Array.isArray(turns)) return invalidConversation('conversations must be a list of {"from", "value"}.', COLUMN);
  const messages: object[] = [];
  const leftOut = new Set<string>();
  for (const [index, turn] of turns.entries()) {
    const at = `${COLUMN}.${index}`;
    if (typeof turn !== 'object' || turn === null) return invalidConversation('A turn must be {"from", "value"}.', at);
    const { from, value, role = from, content = value, weight, ...others } = turn as Record<string, unknown>;
    const sender = Object.hasOwn(turn, 'from') ? 'from' : 'role';
    if (TOOL_SENDERS.has(role)) return invalidConversation(`${JSON.stringify(role)}: ${SEND_CALLS}`, `${at}.${sender}`);
    const mapped = ROLES.get(role);
    if (mapped === undefined)
      return invalidConversation(`from must be one of ${[...ROLES.keys()].join(', ')}.`, `${at}.${sender}`);
    if (typeof content !== 'string') {
      return invalidConversation(
        'The text of a turn is missing: {"from", "value"}.',
        `${at}.${sender === 'from' ? 'value' : 'content'}`,
      );
    }
    for (const name of Object.keys(others)) leftOut.add(`${COLUMN}[].${name}`);
    messages.push({ role: mapped, content, ...(weight == null ? {} : { weight }) });
  }
  if (system != null && typeof system !== 'string')
    return invalidConversation('The column "system" must be text.', 'system');
  if (system) {
    if (messages.some((message) => 'role' in message && message.role === 'system')) {
      return invalidConversation('The row has a system turn and the column "system". Leave one out.', 'system');
    }
    messages.unshift({ role: 'system', content: system });
  }
  return { messages, leftOut: [...leftOut] };
}

const SEND_CALLS =
  'calls of tools are not mapped from ShareGPT. Send the row as {"messages": […], "tools"}, calls in "tool_calls" of an ' +
  'assistant message, their answers as messages with the role "tool".';

function invalidConversation(message: string, param: string): Fault[] {
  return [invalid(message, param)];
}

function invalid(message: string, param: string): Fault {
  return { code: 'invalid_dataset', message, param };
}

/** Columns named in one warning. */
const MAX_NAMED = 20;
const MAX_NAME_LENGTH = 64;

const CODES = { mapped: 'rows_mapped', leftOut: 'columns_left_out' };

/** True if a warning with this code reports a change of the upload. */
export function isRowChange(code: string): boolean {
  return Object.values(CODES).includes(code);
}

/** The changes of an upload to the rows of a file, each with its first line. */
export class MappingReport {
  readonly #mappings = new Map<string, number>();
  readonly #leftOut = new Map<string, number>();
  #hasMoreColumns = false;

  add(line: number, { mappings, leftOut }: MappedRow): void {
    for (const mapping of mappings) {
      if (!this.#mappings.has(mapping)) this.#mappings.set(mapping, line);
    }
    for (const fullName of leftOut) {
      const name = fullName.slice(0, MAX_NAME_LENGTH);
      if (this.#leftOut.has(name)) continue;
      if (this.#leftOut.size < MAX_NAMED) this.#leftOut.set(name, line);
      else this.#hasMoreColumns = true;
    }
  }

  warnings(): Fault[] {
    const warnings = [...this.#mappings].map(([mapping, line]) => ({
      code: CODES.mapped,
      message: `${mapping}.`,
      line,
    }));
    const [first] = this.#leftOut.values();
    if (first === undefined) return warnings;
    const names = [...this.#leftOut.keys()].map((name) => JSON.stringify(name)).join(', ');
    const more = this.#hasMoreColumns ? ' and others' : '';
    const message = `Columns that are not used were left out: ${names}${more}.`;
    return [...warnings, { code: CODES.leftOut, message, line: first }];
  }
}
