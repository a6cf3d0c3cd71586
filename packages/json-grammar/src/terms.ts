/** A set of byte strings. Equal numbers are equal sets; different ones may be equal, too. */
export type Term = number;

/** The set without strings. */
export const NOTHING: Term = 0;
/** The set of the empty string alone. */
export const EMPTY: Term = 1;
const UNKNOWN = -1;

/** Terms of one schema and everything that its answers reach. Each is a few hundred bytes. */
const MAX_TERMS = 65_536;
/** Tables of derivatives, of 1 KB each. */
const MAX_TABLES = 16_384;
/** Derivatives of parts of alternatives: about a second of work. */
const MAX_WORK = 20_000_000;
/** Terms that wait behind each other, a few for each level of nesting. Bounds recursion. */
const MAX_CHAIN = 600;
/** A token may add so many: 64 brackets, with what each waits for. */
const CHAIN_OF_TOKEN = 300;

/** A schema whose grammar has too many states. */
export class GrammarTooLargeError extends Error {
  constructor() {
    super('The schema is too large: its grammar has too many states. Make it simpler.');
    this.name = 'GrammarTooLargeError';
  }
}

/** A term with what it consists of. */
export type TermNode =
  | { kind: 'nothing' | 'empty' }
  /** One byte of a set. */
  | { kind: 'byte'; has: Uint8Array }
  | { kind: 'sequence'; first: Term; rest: Term }
  | { kind: 'choice'; of: readonly Term[] }
  | { kind: 'repeat'; of: Term; min: number; max: number }
  /** The same set, as a unit: masks of a unit are computed once, whatever follows it. */
  | { kind: 'unit'; of: Term }
  /** A rule by its number, so that terms can be recursive. */
  | { kind: 'rule'; rule: number };

/**
 * Sets of byte strings as hash-consed regular terms with recursive rules, and their derivatives (Brzozowski 1964): what may
 * follow a byte is a term again, so a term is the state of an automaton that is built as far as texts reach it.
 */
export class Terms {
  readonly #nodes: TermNode[] = [{ kind: 'nothing' }, { kind: 'empty' }];
  readonly #nullable: boolean[] = [false, true];
  /** The length of the chain of sequences. */
  readonly #chain: number[] = [0, 0];
  readonly #known = new Map<string, Term>();
  /** The bodies of rules; null while they are being made. */
  readonly #bodies: (Term | null)[] = [];
  readonly #tables: (Int32Array | undefined)[] = [];
  #tableCount = 0;
  #work = 0;

  /** True if half of what it may hold is in use. */
  get isHalfFull(): boolean {
    return this.#nodes.length > MAX_TERMS / 2 || this.#tableCount > MAX_TABLES / 2 || this.#work > MAX_WORK / 2;
  }

  /** All rules, in the order in which they were made. */
  get rules(): Term[] {
    return this.#bodies.map((_, rule) => this.#known.get(`n${rule}`)!);
  }

  node(term: Term): Readonly<TermNode> {
    return this.#nodes[term]!;
  }

  /** True if the empty string is in the set. */
  isNullable(term: Term): boolean {
    return this.#nullable[term]!;
  }

  /** True if a token may reach the deepest nesting, which depends on all that waits behind it. */
  isNearDeepest(term: Term): boolean {
    return this.#chain[term]! > MAX_CHAIN - CHAIN_OF_TOKEN;
  }

  /** One byte, of those in a list or range. */
  byte(...bytes: (number | readonly [first: number, last: number])[]): Term {
    const listed = `b${bytes.join(';')}`;
    const known = this.#known.get(listed);
    if (known !== undefined) return known;
    const has = new Uint8Array(256);
    for (const one of bytes) {
      const [first, last] = typeof one === 'number' ? [one, one] : one;
      has.fill(1, first, last + 1);
    }
    const term = this.#intern(`b${Buffer.from(has).toString('latin1')}`, { kind: 'byte', has }, false);
    this.#known.set(listed, term);
    return term;
  }

  /** The UTF-8 of a text. */
  text(text: string): Term {
    return this.sequence(...[...Buffer.from(text)].map((byte) => this.byte(byte)));
  }

  /** One after the other. */
  sequence(...terms: readonly Term[]): Term {
    return terms.reduceRight((rest, first) => this.#pair(first, rest), EMPTY);
  }

  #pair(first: Term, rest: Term): Term {
    if (first === NOTHING || rest === NOTHING) return NOTHING;
    if (first === EMPTY) return rest;
    if (rest === EMPTY) return first;
    const node = this.#nodes[first]!;
    if (node.kind === 'sequence') return this.#pair(node.first, this.#pair(node.rest, rest));
    // What would nest deeper is left out, so that an answer cannot.
    if (this.#chain[rest]! >= MAX_CHAIN) return NOTHING;
    const nullable = this.#nullable[first]! && this.#nullable[rest]!;
    const chain = this.#chain[rest]! + (node.kind === 'byte' ? 0 : 1);
    return this.#intern(`s${first},${rest}`, { kind: 'sequence', first, rest }, nullable, chain);
  }

  /** One of several. Those that begin with the same term become one, so that the alternatives of a text stay few. */
  choice(terms: Iterable<Term>): Term {
    const rests = new Map<Term, Set<Term>>();
    const add = (term: Term) => {
      const node = this.#nodes[term]!;
      if (node.kind === 'nothing') return;
      if (node.kind === 'choice') {
        for (const one of node.of) add(one);
        return;
      }
      const [first, rest] = node.kind === 'sequence' ? [node.first, node.rest] : [term, EMPTY];
      const known = rests.get(first);
      if (known === undefined) rests.set(first, new Set([rest]));
      else known.add(rest);
    };
    for (const term of terms) add(term);
    const of = [...rests].map(([first, following]) => this.#pair(first, this.#oneOf(following)));
    const distinct = [...new Set(of)].filter((term) => term !== NOTHING).sort((a, b) => a - b);
    if (distinct.length === 0) return NOTHING;
    if (distinct.length === 1) return distinct[0]!;
    const nullable = distinct.some((term) => this.#nullable[term]);
    const chain = Math.max(...distinct.map((term) => this.#chain[term]!));
    return this.#intern(`c${distinct.join()}`, { kind: 'choice', of: distinct }, nullable, chain);
  }

  #oneOf(terms: ReadonlySet<Term>): Term {
    const [only] = terms;
    return terms.size === 1 ? only! : this.choice(terms);
  }

  optional(term: Term): Term {
    return this.choice([term, EMPTY]);
  }

  /** `min` to `max` times, one after the other. @param term not nullable */
  repeat(term: Term, min: number, max: number): Term {
    if (max < min) return NOTHING;
    if (max === 0) return EMPTY;
    if (term === NOTHING) return min === 0 ? EMPTY : NOTHING;
    if (min === 1 && max === 1) return term;
    return this.#intern(`r${term},${min},${max}`, { kind: 'repeat', of: term, min, max }, min === 0);
  }

  unit(term: Term): Term {
    if (term === NOTHING || term === EMPTY || this.#nodes[term]!.kind === 'unit') return term;
    return this.#intern(`u${term}`, { kind: 'unit', of: term }, this.#nullable[term]!);
  }

  /**
   * A new rule. Its body is not nullable.
   * @param body makes the body, which may refer to the rule
   */
  rule(body: (rule: Term) => Term): Term {
    const rule = this.newRule();
    this.define(rule, body(rule));
    return rule;
  }

  /** A new rule without a body, which {@link define} gives it. */
  newRule(): Term {
    const rule = this.#bodies.push(null) - 1;
    return this.#intern(`n${rule}`, { kind: 'rule', rule }, false);
  }

  /** @param body not nullable */
  define(rule: Term, body: Term): void {
    const node = this.#nodes[rule]!;
    if (node.kind === 'rule') this.#bodies[node.rule] = body;
  }

  /** A term that is equal for all tokens of at most `length` bytes: large counts become the same. */
  capped(term: Term, length: number): Term {
    const node = this.#nodes[term]!;
    switch (node.kind) {
      case 'unit':
        return this.unit(this.capped(node.of, length));
      case 'sequence':
        return this.#pair(this.capped(node.first, length), this.capped(node.rest, length));
      case 'repeat': {
        const min = Math.min(node.min, length + 1);
        return this.repeat(node.of, min, node.max > length ? Number.POSITIVE_INFINITY : node.max);
      }
      default:
        return term;
    }
  }

  /** The term that may follow a byte; {@link NOTHING} where it may not come. @throws GrammarTooLargeError */
  next(term: Term, byte: number): Term {
    const table = this.#tables[term] ?? this.#tableOf(term);
    const known = table[byte]!;
    if (known !== UNKNOWN) return known;
    const next = this.#derivative(term, byte);
    table[byte] = next;
    return next;
  }

  #tableOf(term: Term): Int32Array {
    if (++this.#tableCount > MAX_TABLES) throw new GrammarTooLargeError();
    const table = new Int32Array(256).fill(UNKNOWN);
    this.#tables[term] = table;
    return table;
  }

  #derivative(term: Term, byte: number): Term {
    const node = this.#nodes[term]!;
    switch (node.kind) {
      case 'nothing':
      case 'empty':
        return NOTHING;
      case 'byte':
        return node.has[byte] === 1 ? EMPTY : NOTHING;
      case 'sequence': {
        const within = this.#pair(this.next(node.first, byte), node.rest);
        return this.#nullable[node.first]! ? this.choice([within, this.next(node.rest, byte)]) : within;
      }
      case 'choice':
        this.#work += node.of.length;
        if (this.#work > MAX_WORK) throw new GrammarTooLargeError();
        return this.choice(node.of.map((one) => this.next(one, byte)));
      case 'repeat': {
        const { of, min, max } = node;
        return this.#pair(this.next(of, byte), this.repeat(of, Math.max(0, min - 1), max - 1));
      }
      case 'unit':
        return this.unit(this.next(node.of, byte));
      case 'rule':
        return this.next(this.bodyOf(node.rule), byte);
    }
  }

  /** The body of the rule with this number. @throws Error while it is being made */
  bodyOf(rule: number): Term {
    const body = this.#bodies[rule];
    if (body == null) throw new Error(`rule ${rule} is not made yet`);
    return body;
  }

  #intern(key: string, node: TermNode, nullable: boolean, chain = 0): Term {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#nodes.length >= MAX_TERMS) throw new GrammarTooLargeError();
    const term = this.#nodes.push(node) - 1;
    this.#nullable.push(nullable);
    this.#chain.push(chain);
    this.#known.set(key, term);
    return term;
  }
}
