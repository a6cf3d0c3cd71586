import { jobScript } from './job-script.js';

export const requestCancelScript = jobScript(import.meta.url, './request-cancel.lua');
