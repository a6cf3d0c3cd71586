import type { Message } from '@lorasmith/contracts';
import type { JinjaEnvironment, JinjaNode } from './chat-template-jinja.js';
import { MAX_OUTLINED_CONTENT, outlineTemplate, type TemplateOutline } from './template-outline.js';

/** Longer conversations hardly ever have the same roles. */
const MAX_OUTLINED_MESSAGES = 64;
/** A few MB at most. */
const MAX_OUTLINES = 1_000;

/** The outlines of a template by the roles of the messages. */
export class OutlineCache {
  readonly #program: JinjaNode;
  readonly #variables: JinjaEnvironment;
  readonly #outlines = new Map<string, TemplateOutline | null>();

  /** @param variables besides the messages; they never change */
  constructor(program: JinjaNode, variables: JinjaEnvironment) {
    this.#program = program;
    this.#variables = variables;
  }

  /** Null when these messages have to be rendered by the interpreter. */
  find(messages: readonly Message[]): TemplateOutline | null {
    if (messages.length > MAX_OUTLINED_MESSAGES) return null;
    let key = '';
    for (const message of messages) {
      if (message.content.length > MAX_OUTLINED_CONTENT) return null;
      const fields = Object.keys(message).join();
      if (fields !== 'role,content' && fields !== 'content,role') return null;
      // A template can print the fields of a message in their order.
      key += `${fields} ${message.role};`;
    }
    const known = this.#outlines.get(key);
    if (known !== undefined) return known;
    const outline = outlineTemplate(this.#program, messages, this.#variables);
    if (this.#outlines.size === MAX_OUTLINES) this.#outlines.clear();
    this.#outlines.set(key, outline);
    return outline;
  }
}
