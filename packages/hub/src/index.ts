export { type DownloadFolder, downloadFile } from './download-file.js';
export { type HubSubject, hubAddress } from './hub-errors.js';
export type { HubSettings } from './hub-fetch.js';
export {
  HUB_VARIABLES,
  type HubFile,
  type HubRepository,
  hubOfEnvironment,
  openHubRepository,
} from './hub-repository.js';
