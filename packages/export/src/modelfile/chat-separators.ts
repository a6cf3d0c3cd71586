import type { Message } from '@lorasmith/contracts';
import type { ChatTemplate } from '@lorasmith/model-folder';

/** The text of a chat template between two messages, by their roles; `start` and `end` are those of the text. */
export interface ChatSeparators {
  /** Null if the template refuses system messages. */
  startToSystem: string | null;
  systemToUser: string | null;
  startToUser: string;
  userToAssistant: string;
  assistantToUser: string;
  /** Behind the last message of the user: the start of the answer. */
  userToAnswer: string;
  /** Behind an answer, up to the next message of the user or the end of the text: what ends a turn comes first. */
  afterAnswer: string;
}

type Role = 'system' | 'user' | 'assistant';

/** Texts that no template contains. */
const text = (index: number) => `lorasmith${'x'.repeat(index + 1)}z`;
const conversation = (...roles: Role[]): Message[] => roles.map((role, index) => ({ role, content: text(index) }));

/** Probes with and without system message, of one turn and of several. */
const PROBES: Role[][] = [
  ['user'],
  ['user', 'assistant', 'user'],
  ['user', 'assistant', 'user', 'assistant', 'user'],
  ['system', 'user'],
  ['system', 'user', 'assistant', 'user'],
  ['system', 'user', 'assistant', 'user', 'assistant', 'user'],
];

/**
 * Finds what a chat template writes between messages, from what it makes of some conversations.
 *
 * @param bos - removed from the start of the text, because the reader of the template adds it; null: it stays
 * @returns null if what it writes between two messages depends on more than their roles
 */
export function findSeparators(template: ChatTemplate, bos: string | null): ChatSeparators | null {
  const between = new Map<string, string>();
  let knowsSystem = true;
  for (const roles of PROBES) {
    const texts = partsOf(template, roles, bos, true);
    if (texts === null) {
      if (roles[0] !== 'system') return null;
      knowsSystem = false;
      continue;
    }
    for (const [index, part] of texts.entries()) {
      const pair = `${roles[index - 1] ?? 'start'} ${roles[index] ?? 'answer'}`;
      if ((between.get(pair) ?? part) !== part) return null;
      between.set(pair, part);
    }
  }
  const answered = partsOf(template, ['user', 'assistant'], bos, false);
  if (answered === null) return null;
  const of = (pair: string) => between.get(pair)!;
  return {
    startToSystem: knowsSystem ? of('start system') : null,
    systemToUser: knowsSystem ? of('system user') : null,
    startToUser: of('start user'),
    userToAssistant: of('user assistant'),
    assistantToUser: of('assistant user'),
    userToAnswer: of('user answer'),
    afterAnswer: answered.at(-1)!,
  };
}

/** The texts around the messages, one more than there are; null if the template refuses them or changes their order. */
function partsOf(
  template: ChatTemplate,
  roles: Role[],
  bos: string | null,
  addGenerationPrompt: boolean,
): string[] | null {
  let rest: string;
  try {
    rest = template.render(conversation(...roles), { addGenerationPrompt });
  } catch {
    return null;
  }
  if (bos !== null && bos !== '' && rest.startsWith(bos)) rest = rest.slice(bos.length);
  const parts: string[] = [];
  for (const index of roles.keys()) {
    const [before, ...after] = rest.split(text(index));
    // A message that is missing, or that stands there twice.
    if (after.length !== 1) return null;
    parts.push(before!);
    rest = after[0]!;
  }
  return [...parts, rest];
}
