import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';

/**
 * One service of the stack.
 *
 * @typedef {object} ServiceProgram
 * @property {string} name
 * @property {string} program its compiled main file
 * @property {(addresses: Addresses) => string | undefined} readyUrl answers 200 once the service is ready; undefined: it has no such URL
 * @property {boolean} [reportsHindrance] true if it sends over its channel what keeps it from work: `{ hindrance: string | null }`
 * @property {number} stopTimeoutMs time limit for a graceful stop
 * @property {string[]} [secrets] variables of the environment that only the services that name them receive
 *
 * @typedef {{ apiUrl: string, registryUrl: string }} Addresses
 */

/**
 * The services in the order in which they start. The api is last, since its readiness depends on the others.
 *
 * @type {ServiceProgram[]}
 */
export const SERVICE_PROGRAMS = [
  {
    name: 'registry',
    program: path.join(ROOT_DIR, 'services/registry/dist/main.js'),
    readyUrl: ({ registryUrl }) => `${registryUrl}/ready`,
    stopTimeoutMs: 15_000,
    secrets: ['SERVICE_SECRET'],
  },
  {
    name: 'worker',
    program: path.join(ROOT_DIR, 'services/worker/dist/main.js'),
    readyUrl: () => undefined,
    reportsHindrance: true,
    // It first lets the trainer write a checkpoint.
    stopTimeoutMs: 60_000,
  },
  {
    name: 'puller',
    program: path.join(ROOT_DIR, 'services/api/dist/puller.js'),
    readyUrl: () => undefined,
    stopTimeoutMs: 15_000,
    secrets: ['HF_TOKEN'],
  },
  {
    name: 'api',
    program: path.join(ROOT_DIR, 'services/api/dist/main.js'),
    readyUrl: ({ apiUrl }) => `${apiUrl}/ready`,
    stopTimeoutMs: 15_000,
    secrets: ['SERVICE_SECRET', 'SECRETS_KEY', 'DELIVERY_S3_ACCESS_KEY_ID', 'DELIVERY_S3_SECRET_ACCESS_KEY'],
  },
];

/** The api stops first, so that no requests arrive; the registry stops after the worker, which publishes to it. */
export const STOP_ORDER = ['api', 'puller', 'worker', 'registry', 'redis'];
