import { EMPTY, NOTHING, type Term, type TermNode, type Terms } from './terms.js';

/**
 * The same set in other terms: there it has only the terms that its further texts may reach.
 * @throws GrammarTooLargeError
 */
export function copyTerm(term: Term, terms: Terms, other: Terms): Term {
  const copies = new Map<Term, Term>();
  /** Rules of the copy, and the bodies that are still to be copied: they may refer to the rules. */
  const bodies: { rule: Term; body: Term }[] = [];
  const copy = (one: Term): Term => {
    const copied = copies.get(one) ?? copyOf(terms.node(one));
    copies.set(one, copied);
    return copied;
  };
  const copyOf = (node: TermNode): Term => {
    switch (node.kind) {
      case 'nothing':
        return NOTHING;
      case 'empty':
        return EMPTY;
      case 'byte':
        return other.byte(...[...node.has.keys()].filter((byte) => node.has[byte] === 1));
      case 'sequence':
        return other.sequence(copy(node.first), copy(node.rest));
      case 'choice':
        return other.choice(node.of.map(copy));
      case 'repeat':
        return other.repeat(copy(node.of), node.min, node.max);
      case 'unit':
        return other.unit(copy(node.of));
      case 'rule': {
        const rule = other.newRule();
        bodies.push({ rule, body: terms.bodyOf(node.rule) });
        return rule;
      }
    }
  };
  const copied = copy(term);
  for (let next = bodies.pop(); next !== undefined; next = bodies.pop()) other.define(next.rule, copy(next.body));
  return copied;
}

/** The rules of which a finite text exists. */
export function productiveRules(terms: Terms): ReadonlySet<Term> {
  const productive = new Set<Term>();
  /** The rules that are looked at again once this one is productive. */
  const waiting = new Map<Term, Term[]>();
  const waitFor = (rule: Term, within: Term) => {
    const known = waiting.get(rule);
    if (known === undefined) waiting.set(rule, [within]);
    else known.push(within);
  };
  const isProductive = (term: Term, within: Term): boolean => {
    if (productive.has(term)) return true;
    const node = terms.node(term);
    const found = partsAre(node, within);
    if (found) productive.add(term);
    else if (node.kind === 'rule') waitFor(term, within);
    return found;
  };
  const partsAre = (node: TermNode, within: Term): boolean => {
    switch (node.kind) {
      case 'sequence':
        return isProductive(node.first, within) && isProductive(node.rest, within);
      case 'choice':
        return node.of.some((one) => isProductive(one, within));
      case 'repeat':
        return node.min === 0 || isProductive(node.of, within);
      case 'unit':
        return isProductive(node.of, within);
      default:
        return node.kind === 'byte' || node.kind === 'empty';
    }
  };
  const { rules } = terms;
  for (const rule of rules) {
    const node = terms.node(rule);
    if (productive.has(rule) || node.kind !== 'rule' || !isProductive(terms.bodyOf(node.rule), rule)) continue;
    productive.add(rule);
    rules.push(...(waiting.get(rule) ?? []));
  }
  return productive;
}

/** A rule that may begin with itself, among these and those that they may begin with; undefined: there is none. */
export function ruleWithinItself(terms: Terms, rules: Iterable<Term>): Term | undefined {
  const states = new Map<Term, 'open' | 'done'>();
  const firstOf = (some: Iterable<Term>): Term | undefined => {
    for (const term of some) {
      const found = search(term);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const search = (term: Term): Term | undefined => {
    const node = terms.node(term);
    switch (node.kind) {
      case 'sequence':
        return firstOf(terms.isNullable(node.first) ? [node.first, node.rest] : [node.first]);
      case 'choice':
        return firstOf(node.of);
      case 'repeat':
      case 'unit':
        return search(node.of);
      case 'rule': {
        const state = states.get(term);
        if (state !== undefined) return state === 'open' ? term : undefined;
        states.set(term, 'open');
        const found = search(terms.bodyOf(node.rule));
        states.set(term, 'done');
        return found;
      }
      default:
        return undefined;
    }
  };
  return firstOf(rules);
}
