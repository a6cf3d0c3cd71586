// The part of the client that also runs in a browser: it uses no Node modules and no Node-only globals.
export type * from '@lorasmith/contracts';
export { ApiError, apiErrorOf, apiErrorOfText, type FoldedFault, foldedFaults } from './api-error.js';
export type { CreateJobOptions, UploadOptions, UploadSource } from './calls.js';
export * from './client.js';
export * from './comparison-text.js';
export type { CallOptions } from './http-transport.js';
export * from './job-events.js';
export { eventText, type HeldOutLoss, worseOnHeldOutRows, worseText } from './job-progress.js';
export {
  type JudgedCase,
  type ProbeJudgement,
  type ProbeResult,
  type ProbeServerOptions,
  type ProbeVerdict,
  probeServer,
} from './probe-server.js';
export * from './report-text.js';
export type { DownloadStream } from './resumed-download.js';
export * from './sweep-text.js';
export * from './text-calls.js';
export * from './text-output.js';
