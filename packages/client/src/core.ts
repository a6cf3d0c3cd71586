// The part of the client that also runs in a browser: it uses no Node modules and no Node-only globals.
export type * from '@lorasmith/contracts';
export * from './api-error.js';
export type { CallOptions } from './call-options.js';
export * from './client.js';
export { type FoldedFault, foldedFaults } from './fault-lines.js';
export * from './held-out-change.js';
export * from './job-events.js';
export { eventText } from './job-progress.js';
export type { JudgedCase, ProbeJudgement, ProbeVerdict } from './probe/judge-probe.js';
export * from './probe/probe-server.js';
export * from './report-text.js';
export * from './report-text.js';
export { settingOf } from './report-text.js';
export type { DownloadStream } from './resumed-download.js';
export * from './sweep-text.js';
export * from './text-calls.js';
export * from './text-output.js';
