export * from './core.js';
export type { DatasetToPull, PullDatasetOptions, PulledDataset } from './hub-dataset.js';
export * from './job-progress.js';
// Replaces the client of the core with one that also uploads and downloads files.
export { type Client, createClient, type DownloadAdapterOptions, type DownloadDestination } from './node-client.js';
export { FolderSource } from './openai-import/folder-source.js';
export * from './openai-import/index.js';
export type { DownloadOptions, DownloadProgress } from './resumable-download.js';
export type { Sample, SampledPrompt, Sampler, SamplingSettings } from './sessions/sampler.js';
export { type SessionRow, sessionRowOf } from './sessions/session-rows.js';
export type * from './sessions/training-session.js';
export type { TextOutput } from './text-output.js';
