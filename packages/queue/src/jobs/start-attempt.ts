import { jobScript } from './job-script.js';

export const startAttemptScript = jobScript(import.meta.url, './start-attempt.lua');
