import type { Fault } from '@lorasmith/contracts';

/** A fault, or several that say the same of different lines. */
export interface FoldedFault {
  /** The lines of the file, or the field; empty if the fault has none. */
  place: string;
  message: string;
}

/** Lines that are named. Further ones are counted. */
const NAMED_LINES = 4;

/** Faults with their places; those that say the same of several lines are one, and rows of different lengths have their range. */
export function foldedFaults(faults: readonly Fault[]): FoldedFault[] {
  const groups = new Map<string, Fault[]>();
  for (const fault of faults) {
    const { code, line, dataset, param } = fault;
    const key = JSON.stringify([code, dataset, line === undefined, param, withLength(fault, '')]);
    groups.set(key, [...(groups.get(key) ?? []), fault]);
  }
  return [...groups.values()].map((group) => ({ place: placeOf(group), message: messageOf(group) }));
}

/** Each fault as an indented line, with its location. */
export function faultLines(faults: readonly Fault[]): string[] {
  return foldedFaults(faults).map(({ place, message }) => `  ${place === '' ? '' : `${place}: `}${message}`);
}

function placeOf(group: readonly Fault[]): string {
  const [{ dataset, param } = {}] = group;
  const lines = group.flatMap(({ line }) => line ?? []);
  return lines.length === 0 ? (param ?? '') : `${linesText(lines)}${dataset === undefined ? '' : ` of ${dataset}`}`;
}

/** `line 3`, `lines 1, 4 and 7`, `lines 1, 4, 7 and 47 more` */
function linesText(lines: readonly number[]): string {
  if (lines.length === 1) return `line ${lines[0]}`;
  const named = lines.slice(0, lines.length > NAMED_LINES ? NAMED_LINES - 1 : -1);
  const last = lines.length > NAMED_LINES ? `${lines.length - named.length} more` : lines.at(-1);
  return `lines ${named.join(', ')} and ${last}`;
}

function messageOf(group: readonly Fault[]): string {
  const lengths = group.flatMap(({ tokens }) => tokens ?? []);
  const [shortest, longest] = [Math.min(...lengths), Math.max(...lengths)];
  return withLength(group[0]!, shortest === longest ? String(shortest) : `${shortest} to ${longest}`);
}

/** The message with another text for the tokens of the row; as it is for a fault that is not about a length. */
function withLength({ message, tokens }: Fault, text: string): string {
  return tokens === undefined ? message : message.replace(String(tokens), text);
}
