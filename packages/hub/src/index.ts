export { type DownloadFolder, downloadFile } from './download-file.js';
export { type HubSubject, hubAddress } from './hub-errors.js';
export type { HubSettings } from './hub-fetch.js';
export { type HubFile, type HubRepository, openHubRepository } from './hub-repository.js';
export { HUB_VARIABLES, hubOfEnvironment } from './hub-variables.js';
