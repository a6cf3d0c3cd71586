import type { Fault } from '@lorasmith/contracts';

/** Each fault as an indented line, with its location. */
export function faultLines(faults: readonly Fault[]): string[] {
  return faults.map(({ line, dataset, param, message }) => {
    const location = line === undefined ? param : `line ${line}${dataset === undefined ? '' : ` of ${dataset}`}`;
    return `  ${location === undefined ? '' : `${location}: `}${message}`;
  });
}
