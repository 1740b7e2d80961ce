using System.Net.Http.Json;

var guard = Environment.GetEnvironmentVariable("GUARD")!;
using var http = new HttpClient { BaseAddress = new Uri("http://127.0.0.1:2774") };
http.DefaultRequestHeaders.Add("X-Token-Broker-Token", guard);
Console.WriteLine(await http.GetStringAsync("/proxy/default/v3/users/list"));
var form = new Dictionary<string, string>
    { ["grant_type"] = "client_credentials", ["client_id"] = "any", ["client_secret"] = guard };
using var answer = await http.PostAsync("/oauth/token", new FormUrlEncodedContent(form));
Console.WriteLine(await answer.EnsureSuccessStatusCode().Content.ReadAsStringAsync());
