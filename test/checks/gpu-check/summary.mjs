import path from 'node:path';
import { findingsOf, kernelFindings } from './findings.mjs';
import { kernelChoice } from './kernel-choice.mjs';
import { isFailure, isLeftOut } from './report.mjs';
import { verdict } from './verdict.mjs';

/**
 * The summary of a report, whose last line says whether the card can be used.
 *
 * @param {{ check: import('./parts.mjs').Check, report: import('./report.mjs').Report, areLeft: boolean, selfTest: any,
 *   done: Map<string, import('./run-part.mjs').PartEnd>, launches: Record<string, number> }} options `areLeft`: parts are still to be run
 * @returns {string[]} Markdown
 */
export function summaryOf({ check, report, done, launches, selfTest, areLeft }) {
  const { isEmulated, out } = check;
  const findings = findingsOf({
    isEmulated,
    report: path.join(out, 'report.md'),
    parts: report.parts,
    done,
    selfTest,
    launches,
  });
  const bad = report.parts.filter(({ ending }) => isFailure(ending));
  const skipped = report.parts.filter(({ ending }) => isLeftOut(ending));
  const named = (/** @type {typeof bad} */ parts) => parts.map(({ name, ending }) => `${name} (${ending})`).join(', ');
  return [
    `- parts: ${report.parts.length - bad.length - skipped.length} done${areLeft ? ' so far' : ''}${bad.length > 0 ? `; ${named(bad)}` : ''}`,
    ...(skipped.length > 0 ? [`- left out: ${skipped.map(({ name, how }) => `${name} (${how})`).join(', ')}`] : []),
    `- the parts computed with ${kernelChoice(selfTest).why}`,
    ...linesOfKernels({ isEmulated, done, launches }),
    '',
    areLeft ? 'Parts are still running.' : `**${verdict(findings).sentence}**`,
  ];
}

/** @param {Parameters<typeof kernelFindings>[0]} check @returns {string[]} */
function linesOfKernels(check) {
  const found = kernelFindings(check);
  if (found === null)
    return ['- kernels that were never launched: not known without the parts card, self-test and types'];
  const { all, launched, known, unknown } = found;
  const why = known.map(({ reason, names }) => `${names.length} as ${reason}`);
  return [
    `- kernels: ${launched} of ${all} were launched${why.length > 0 ? `; not ${why.join(', ')}` : ''}`,
    ...(unknown.length > 0 ? [`- kernels that were never launched: ${unknown.join(', ')}`] : []),
  ];
}
