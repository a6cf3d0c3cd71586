export { WORKER_SETTINGS } from './settings.js';
export { startWorker, type WorkerOptions, type WorkerService } from './start-worker.js';
