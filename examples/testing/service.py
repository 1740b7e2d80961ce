import os
import httpx
from token_broker.httpx import TokenBrokerAuth

api_url = os.environ["CONVIRZA_API_URL"]
api = httpx.Client(base_url=api_url, auth=TokenBrokerAuth(api_url=api_url))

def name_of(call):
    return api.get(f"/v3/calls/{call}").raise_for_status().json()["name"]
