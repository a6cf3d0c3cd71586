export * from './core.js';
export * from './job-progress.js';
// Uploads from files and downloads to them, in place of the core's client.
export { type Client, createClient, type DownloadAdapterOptions, type DownloadDestination } from './node-client.js';
export type { DownloadOptions, DownloadProgress } from './resumable-download.js';
