/**
 * The kernels that jobs get on this card, by the self-test.
 *
 * @typedef {object} KernelChoice
 * @property {'fused' | 'raw'} kernels `raw`: plain ops alone
 * @property {string[]} avoided fused kernels that are not used, such as `rmsNorm:bfloat16`
 * @property {string} why for the report
 */

/**
 * The kernels with which the other parts compute, whatever the self-test came to: they run in any case.
 *
 * @param {any} selfTest the content of its file; null: it was not run
 * @returns {KernelChoice}
 */
export function kernelChoice(selfTest) {
  if (selfTest === null)
    return { kernels: 'fused', avoided: [], why: 'all fused kernels, as the self-test was not run' };
  const { done, trusted } = selfTest;
  const kernels = selfTest.kernels === 'raw' ? 'raw' : 'fused';
  const avoided = [...new Set(selfTest.avoided ?? wrongKernels(selfTest.cases ?? []))].sort();
  const those =
    kernels === 'raw'
      ? 'plain kernels only'
      : avoided.length === 0
        ? 'all fused kernels'
        : `the fused kernels without ${avoided.join(', ')}`;
  const because = !done
    ? ', as far as the self-test came, which did not end'
    : trusted
      ? ''
      : ', although the self-test does not trust the engine';
  return { kernels, avoided, why: `${those}${because}` };
}

/** The options of programs that compute with the choice. @param {KernelChoice} choice */
export function kernelArguments({ kernels, avoided }) {
  return ['--kernels', kernels, ...(avoided.length > 0 ? ['--avoid', avoided.join(',')] : [])];
}

/** The options of `parseArgs` for {@link kernelArguments}. */
export const KERNEL_OPTIONS = /** @type {const} */ ({
  kernels: { type: 'string', default: 'fused' },
  avoid: { type: 'string', default: '' },
});

/**
 * @param {{ kernels: string, avoid: string }} values of {@link KERNEL_OPTIONS}
 * @returns {['fused' | 'raw', { avoid: string[] }]} the arguments of `chooseKernels`
 */
export function kernelsOf({ kernels, avoid }) {
  return [kernels === 'raw' ? 'raw' : 'fused', { avoid: avoid.split(',').filter((name) => name !== '') }];
}

/** @param {{ subject?: { kind: string, name: string }, fault: string | null }[]} cases */
function wrongKernels(cases) {
  return cases.flatMap(({ subject, fault }) => (fault !== null && subject?.kind === 'kernel' ? [subject.name] : []));
}
