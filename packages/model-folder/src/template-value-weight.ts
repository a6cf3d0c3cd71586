import type { JinjaValue } from './chat-template-jinja.js';

/** What an element takes besides its own text: to make one costs as much as to copy this many characters. */
const ELEMENT_WEIGHT = 512;

/**
 * How large a value of a template would be when written out, in characters, about. A list that has itself twice, forty
 * times over, takes a few bytes here and 2^40 characters in `tojson`: so a value is weighed before it is written.
 */
export class TemplateValueWeights {
  /** Lists and objects never change once they are made; a namespace does, and is weighed anew. */
  readonly #known = new WeakMap<object, number>();

  /** @returns a weight, Infinity for a value that contains itself; and whether it is not known from before */
  of(value: JinjaValue): { weight: number; isNew: boolean } {
    const known = this.#known.get(value);
    return known === undefined
      ? { weight: this.#weigh(value, new Map()), isNew: true }
      : { weight: known, isNew: false };
  }

  #weigh(value: JinjaValue, namespaces: Map<object, number>): number {
    const content = value.value;
    if (typeof content === 'string') return content.length;
    const isNamespace = value.type === 'NamespaceValue';
    const parts = Array.isArray(content) ? content : content instanceof Map ? content.values() : null;
    if (parts === null) return 1;
    const known = isNamespace ? namespaces.get(value) : this.#known.get(value);
    if (known !== undefined) return known;
    // Found again while it is weighed, it contains itself.
    if (isNamespace) namespaces.set(value, Number.POSITIVE_INFINITY);
    let weight = ELEMENT_WEIGHT;
    let holdsNamespace = isNamespace;
    for (const part of parts as Iterable<JinjaValue>) {
      weight += ELEMENT_WEIGHT + this.#weigh(part, namespaces);
      holdsNamespace ||= !this.#isFixed(part);
    }
    if (isNamespace) namespaces.set(value, weight);
    else if (!holdsNamespace) this.#known.set(value, weight);
    return weight;
  }

  #isFixed(value: JinjaValue): boolean {
    const content = value.value;
    return !(Array.isArray(content) || content instanceof Map) || this.#known.has(value);
  }
}
