import java.net.URI;
import java.net.http.*;

class Calls {
    public static void main(String... arguments) throws Exception {
        String agent = "http://127.0.0.1:2774", guard = System.getenv("GUARD");
        var http = HttpClient.newHttpClient();
        var users = HttpRequest.newBuilder(URI.create(agent + "/proxy/default/v3/users/list"))
            .header("X-Token-Broker-Token", guard).build();
        System.out.println(http.send(users, HttpResponse.BodyHandlers.ofString()).body());
        var basic = java.util.Base64.getEncoder().encodeToString(("any:" + guard).getBytes());
        var token = HttpRequest.newBuilder(URI.create(agent + "/oauth/token")).header("Authorization", "Basic " + basic)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .POST(HttpRequest.BodyPublishers.ofString("grant_type=client_credentials")).build();
        System.out.println(http.send(token, HttpResponse.BodyHandlers.ofString()).body());
    }
}
