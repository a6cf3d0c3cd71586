export type * from '@lorasmith/contracts';
export * from './api-error.js';
export * from './client.js';
export * from './human-units.js';
export * from './job-events.js';
export * from './job-progress.js';
export * from './report-text.js';
export type { DownloadOptions, DownloadProgress } from './resumable-download.js';
