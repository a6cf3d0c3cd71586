import type { Fault } from '@lorasmith/contracts';

/** A conversation in the form of `messages`. */
export interface MappedConversation {
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
export function mapConversation(turns: unknown, system: unknown): MappedConversation | Fault[] {
  if (!Array.isArray(turns)) return fault('conversations must be a list of {"from", "value"}.', COLUMN);
  const messages: object[] = [];
  const leftOut = new Set<string>();
  for (const [index, turn] of turns.entries()) {
    const at = `${COLUMN}.${index}`;
    if (typeof turn !== 'object' || turn === null) return fault('A turn must be {"from", "value"}.', at);
    const { from, value, role = from, content = value, weight, ...others } = turn as Record<string, unknown>;
    const sender = Object.hasOwn(turn, 'from') ? 'from' : 'role';
    if (TOOL_SENDERS.has(role)) return fault(`${JSON.stringify(role)}: ${SEND_CALLS}`, `${at}.${sender}`);
    const mapped = ROLES.get(role);
    if (mapped === undefined) return fault(`from must be one of ${[...ROLES.keys()].join(', ')}.`, `${at}.${sender}`);
    if (typeof content !== 'string') {
      return fault(
        'The text of a turn is missing: {"from", "value"}.',
        `${at}.${sender === 'from' ? 'value' : 'content'}`,
      );
    }
    for (const name of Object.keys(others)) leftOut.add(`${COLUMN}[].${name}`);
    messages.push({ role: mapped, content, ...(weight == null ? {} : { weight }) });
  }
  if (system != null && typeof system !== 'string') return fault('The column "system" must be text.', 'system');
  if (system) {
    if (messages.some((message) => 'role' in message && message.role === 'system')) {
      return fault('The row has a system turn and the column "system". Leave one out.', 'system');
    }
    messages.unshift({ role: 'system', content: system });
  }
  return { messages, leftOut: [...leftOut] };
}

const SEND_CALLS =
  'calls of tools are not mapped from ShareGPT. Send the row as {"messages": […], "tools"}, calls in "tool_calls" of an ' +
  'assistant message, their answers as messages with the role "tool".';

function fault(message: string, param: string): Fault[] {
  return [{ code: 'invalid_dataset', message, param }];
}
