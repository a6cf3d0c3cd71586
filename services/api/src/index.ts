export { type AppDependencies, buildApp } from './app.js';
export { API_SETTINGS } from './settings.js';
