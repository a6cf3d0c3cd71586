import type { JinjaEnvironment, JinjaNode } from './chat-template-jinja.js';
import {
  MAX_OUTLINED_CONTENT,
  type OutlinedMessage,
  outlineTemplate,
  TEXT_FIELDS,
  type TemplateOutline,
} from './template-outline.js';

/** Longer conversations hardly ever have the same roles. */
const MAX_OUTLINED_MESSAGES = 64;
/** A few MB at most. */
const MAX_OUTLINES = 1_000;
/** Maximum outlines of conversations with the same roles. */
const MAX_OUTLINES_PER_ROLES = 16;

/** The outlines of a template by the roles of the messages. */
export class OutlineCache {
  readonly #program: JinjaNode;
  readonly #variables: JinjaEnvironment;
  readonly #outlines = new Map<string, TemplateOutline[]>();
  #count = 0;

  /** @param variables besides the messages; they never change */
  constructor(program: JinjaNode, variables: JinjaEnvironment) {
    this.#program = program;
    this.#variables = variables;
  }

  /** The text for these messages; null when the interpreter has to render it. */
  render(messages: readonly OutlinedMessage[]): string | null {
    if (messages.length > MAX_OUTLINED_MESSAGES) return null;
    let key = '';
    for (const message of messages) {
      // Messages with calls of tools have other fields.
      if (!isOutlined(message)) return null;
      // A template can print the fields of a message in their order.
      key += `${Object.keys(message).join()} ${message.role};`;
    }
    const outlines = this.#outlines.get(key) ?? [];
    const outline = outlines.find((known) => known.fits(messages)) ?? this.#add(key, outlines, messages);
    return outline?.fill(messages) ?? null;
  }

  #add(key: string, outlines: TemplateOutline[], messages: readonly OutlinedMessage[]): TemplateOutline | null {
    if (outlines.length === MAX_OUTLINES_PER_ROLES) return null;
    if (this.#count === MAX_OUTLINES) {
      this.#outlines.clear();
      this.#count = 0;
      outlines = [];
    }
    const outline = outlineTemplate(this.#program, messages, this.#variables);
    this.#outlines.set(key, [...outlines, outline]);
    this.#count++;
    return outline;
  }
}

/** Whether a message has nothing beside a role and texts, and these are not long. */
function isOutlined(message: OutlinedMessage): boolean {
  return Object.keys(message).every((field) => {
    if (field === 'role') return true;
    const known = TEXT_FIELDS.find((name) => name === field);
    const text: unknown = known && message[known];
    return typeof text === 'string' && text.length <= MAX_OUTLINED_CONTENT;
  });
}
