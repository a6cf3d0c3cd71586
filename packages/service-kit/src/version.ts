/** The version in the package.json of the repository. */
export const PRODUCT_VERSION = '0.1.0';
