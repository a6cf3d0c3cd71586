// A process that computes cases of the self-test's table, one for each request, with the kernels that it asks for.
import { serveParent } from '../../packages/child-processes/dist/index.js';
import { chooseKernels } from '../../packages/tensor/dist/index.js';
import { numericCases } from '../../packages/tensor/dist/numeric-cases/index.js';
import { withProbeModel } from '../../packages/training/dist/probe/measure-machine.js';
import { computeCase, trainingCases } from '../../packages/training/dist/self-test.js';

/**
 * @typedef {import('./case-process.js').CaseRequest} CaseRequest
 * @typedef {import('./case-process.js').CaseReply} CaseReply
 */

const channel = serveParent({
  onMessage: (/** @type {CaseRequest} */ request) => void reply(request).then(channel.send),
});

/** @param {CaseRequest} request @returns {Promise<CaseReply>} */
async function reply(request) {
  try {
    return await compute(request);
  } catch (error) {
    return { type: 'failed', message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** @param {CaseRequest} request @returns {Promise<CaseReply>} */
async function compute({ name, sizes, kernels: source, instructionSet }) {
  const before = process.cpuUsage();
  const kernels = chooseKernels(source, { instructionSet });
  if (instructionSet !== undefined && kernels.library !== instructionSet)
    throw new Error(`the kernels are ${kernels.library}, not ${instructionSet}`);
  // The type check sees the sources of one package and the build of the other.
  const computed = name.startsWith('training step')
    ? await withProbeModel(
        (folder) => computeNamed(name, /** @type {any} */ (trainingCases(folder)), kernels),
        sizes === 'full' ? 'realistic' : 'tiny',
      )
    : await computeNamed(name, numericCases(sizes), kernels);
  const { user, system } = process.cpuUsage(before);
  return { type: 'computed', computed: /** @type {any} */ (computed), seconds: (user + system) / 1e6 };
}

/**
 * @param {string} name
 * @param {readonly import('../../packages/tensor/dist/numeric-cases/index.js').NumericCase[]} cases
 * @param {any} kernels
 */
function computeNamed(name, cases, kernels) {
  const found = cases.find((one) => one.name === name);
  if (found === undefined) throw new Error(`there is no case ${name}`);
  return computeCase(/** @type {any} */ (found), kernels, 1);
}
