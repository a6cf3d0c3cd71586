export { type AppDependencies, buildApp } from './app.js';
export { PULLER_SETTINGS } from './puller-settings.js';
export { API_SETTINGS } from './settings.js';
