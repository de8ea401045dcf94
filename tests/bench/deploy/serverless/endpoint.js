// Points Serverless at AWS_ENDPOINT_URL, which its generation of the SDK does not read itself.
module.exports = class Endpoint {
  constructor() {
    const AWS = require("aws-sdk");
    AWS.config.update({ endpoint: process.env.AWS_ENDPOINT_URL, s3ForcePathStyle: true });
  }
};
