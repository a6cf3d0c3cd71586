import { heldValues, isNamespace, type JinjaValue } from './chat-template-jinja.js';

/** The weight of an element besides its text: creating one takes as long as copying this many characters. */
const ELEMENT_WEIGHT = 512;

/**
 * The approximate length of a template's values when they are printed, in characters. A list that contains the previous
 * list twice, nested forty times, takes little memory but 2^40 characters in `tojson`. So a value is weighed before it is
 * printed.
 */
export class TemplateValueWeights {
  /** Weights of lists and objects, which never change. A namespace can change, so it is weighed each time. */
  readonly #known = new WeakMap<object, number>();

  /** @returns the weight, Infinity for a value that contains itself; and whether this is the first time */
  of(value: JinjaValue): { weight: number; isNew: boolean } {
    const known = this.#known.get(value);
    return known === undefined
      ? { weight: this.#weigh(value, new Map()), isNew: true }
      : { weight: known, isNew: false };
  }

  #weigh(value: JinjaValue, namespaces: Map<object, number>): number {
    if (value.weight !== undefined) return value.weight;
    if (typeof value.value === 'string') return value.value.length;
    const parts = heldValues(value);
    if (parts === null) return 1;
    const canChange = isNamespace(value);
    const known = canChange ? namespaces.get(value) : this.#known.get(value);
    if (known !== undefined) return known;
    // If a namespace is found again while it is weighed, it contains itself.
    if (canChange) namespaces.set(value, Number.POSITIVE_INFINITY);
    let weight = ELEMENT_WEIGHT;
    let holdsNamespace = canChange;
    for (const part of parts) {
      weight += ELEMENT_WEIGHT + this.#weigh(part, namespaces);
      holdsNamespace ||= !this.#isFixed(part);
    }
    if (canChange) namespaces.set(value, weight);
    else if (!holdsNamespace) this.#known.set(value, weight);
    return weight;
  }

  #isFixed(value: JinjaValue): boolean {
    return value.weight !== undefined || heldValues(value) === null || this.#known.has(value);
  }
}
