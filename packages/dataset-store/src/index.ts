export { datasetIdOf, datasetNotFound, readDataset, writeDataset } from './dataset-record.js';
