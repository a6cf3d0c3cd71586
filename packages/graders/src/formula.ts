/** A formula over named numbers. */
export interface Formula {
  /** The names in it, each once. */
  names: ReadonlySet<string>;
  /** @param values a number for each name. May be NaN or infinite: the caller looks. */
  value(values: ReadonlyMap<string, number>): number;
}

type Value = (values: ReadonlyMap<string, number>) => number;

const FUNCTIONS: Readonly<Record<string, { least: number; most: number; of: (...numbers: number[]) => number }>> = {
  min: { least: 1, most: 16, of: Math.min },
  max: { least: 1, most: 16, of: Math.max },
  abs: { least: 1, most: 1, of: Math.abs },
};
const MAX_DEPTH = 32;
const TOKEN = /\s*(?:(\d+(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)|([a-z_][a-z0-9_]*)|(.))/giy;

/**
 * Parses a formula: sums of products of terms. A term is a number, a name, a function of formulas, a formula in parentheses, or minus a
 * term.
 *
 *     sum     = product (("+" | "-") product)*
 *     product = term (("*" | "/") term)*
 *     term    = number | name | name "(" sum ("," sum)* ")" | "(" sum ")" | "-" term
 *
 * @throws GraderError of `calculate_output`, with the place
 */
export function parseFormula(text: string): Formula {
  return new FormulaParser(text).parse();
}

class FormulaParser {
  readonly #tokens: { text: string; kind: 'number' | 'name' | 'sign' | 'end'; at: number }[] = [];
  readonly #names = new Set<string>();
  #next = 0;
  #depth = 0;

  constructor(text: string) {
    for (const { 0: whole, 1: number, 2: name, 3: sign, index } of text.trimEnd().matchAll(TOKEN)) {
      const found = number ?? name ?? sign ?? '';
      const kind = number !== undefined ? 'number' : name !== undefined ? 'name' : 'sign';
      this.#tokens.push({ text: found, kind, at: index + whole.length - found.length });
    }
    this.#tokens.push({ text: 'the end', kind: 'end', at: text.length });
  }

  parse(): Formula {
    const value = this.#sum();
    if (this.#peek.kind !== 'end') throw this.#unexpected();
    return { names: this.#names, value };
  }

  get #peek() {
    return this.#tokens[this.#next]!;
  }

  /** Reads the next token if it is this sign. @returns true: it was */
  #reads(sign: string): boolean {
    const isIt = this.#peek.kind === 'sign' && this.#peek.text === sign;
    if (isIt) this.#next++;
    return isIt;
  }

  #sum(): Value {
    if (++this.#depth > MAX_DEPTH) throw this.#wrong(`It is nested deeper than ${MAX_DEPTH} levels.`);
    let left = this.#product();
    for (;;) {
      const one = left;
      if (this.#reads('+')) {
        const other = this.#product();
        left = (values) => one(values) + other(values);
      } else if (this.#reads('-')) {
        const other = this.#product();
        left = (values) => one(values) - other(values);
      } else {
        this.#depth--;
        return left;
      }
    }
  }

  #product(): Value {
    let left = this.#term();
    for (;;) {
      const one = left;
      if (this.#reads('*')) {
        const other = this.#term();
        left = (values) => one(values) * other(values);
      } else if (this.#reads('/')) {
        const other = this.#term();
        left = (values) => one(values) / other(values);
      } else return left;
    }
  }

  #term(): Value {
    let sign = 1;
    while (this.#reads('-')) sign = -sign;
    const value = this.#unsigned();
    return sign === 1 ? value : (values) => -value(values);
  }

  #unsigned(): Value {
    if (this.#reads('(')) {
      const value = this.#sum();
      if (!this.#reads(')')) throw this.#unexpected();
      return value;
    }
    const { kind, text } = this.#peek;
    if (kind !== 'number' && kind !== 'name') throw this.#unexpected();
    this.#next++;
    if (kind === 'number') {
      const number = Number(text);
      return () => number;
    }
    if (this.#reads('(')) return this.#call(text);
    this.#names.add(text);
    return (values) => values.get(text)!;
  }

  #call(name: string): Value {
    const called = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name]! : null;
    if (called === null) throw this.#wrong(`There is no function ${name}: only ${Object.keys(FUNCTIONS).join(', ')}.`);
    const given = [this.#sum()];
    while (this.#reads(',')) given.push(this.#sum());
    if (!this.#reads(')')) throw this.#unexpected();
    const { least, most, of } = called;
    if (given.length < least || given.length > most) {
      throw this.#wrong(`${name} takes ${least === most ? least : `${least} to ${most}`} values, not ${given.length}.`);
    }
    return (values) => of(...given.map((value) => value(values)));
  }

  #unexpected(): GraderError {
    const { text, at } = this.#peek;
    return this.#wrong(`${text.slice(0, 64)} is not expected at character ${at + 1}.`);
  }

  #wrong(what: string): GraderError {
    return new GraderError('calculate_output', `The formula cannot be read. ${what}`);
  }
}

/** A fault in the settings of a grader. */
export class GraderError extends Error {
  /** The setting, as a path from the grader: `graders.right.pattern`. */
  readonly param: string;

  constructor(param: string, message: string) {
    super(message);
    this.name = 'GraderError';
    this.param = param;
  }

  /** The same fault, of a grader within another. */
  within(path: string): GraderError {
    return new GraderError(`${path}.${this.param}`, this.message);
  }
}
